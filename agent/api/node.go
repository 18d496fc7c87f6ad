package api

// Node is what an agent says about itself.
type Node struct {
	Node    string `json:"node"`
	Version string `json:"version"`
	CRIU    string `json:"criu"`
	Kernel  string `json:"kernel"`
	Listen  string `json:"listen"`
}
