package job

// Spec is what a user asked for when the job was started. Paths are as the job sees them, unless
// a field says otherwise.
type Spec struct {
	Name     string   `json:"name,omitempty"`     // free, for people; not unique
	Hostname string   `json:"hostname,omitempty"` // "" = the job's id
	WorkDir  string   `json:"work_dir,omitempty"` // "" = /
	Args     []string `json:"args"`               // the command and its arguments
	Env      []string `json:"env,omitempty"`      // KEY=VALUE, complete: nothing is inherited

	UID    uint32   `json:"uid"` // of the caller, on the node
	GID    uint32   `json:"gid"`
	Groups []uint32 `json:"groups,omitempty"` // supplementary

	Root  string `json:"root,omitempty"` // directory on the node; "" = the node's own tree
	Binds []Bind `json:"binds,omitempty"`

	Stdin  string `json:"stdin,omitempty"`  // "" = /dev/null
	Stdout string `json:"stdout,omitempty"` // "" = the job's own log
	Stderr string `json:"stderr,omitempty"` // "" = the job's own log

	Rlimits []Rlimit `json:"rlimits,omitempty"`
	Umask   uint32   `json:"umask,omitempty"` // of the caller
	Limits  Limits   `json:"limits"`
	// OutputLimit is how much of the job's own log is kept, in bytes, stdout and stderr together. A
	// job that prints more is ended. 0 = none, which only older versions have written.
	OutputLimit int64   `json:"output_limit,omitempty"`
	Network     Network `json:"network"`

	UserNS  bool   `json:"user_ns,omitempty"`  // the job's ids are mapped by a user namespace of its own
	UIDBase uint32 `json:"uid_base,omitempty"` // first id of the node that it maps to; 0 = chosen by the agent
	Init    bool   `json:"init,omitempty"`     // PID 1 is a small init that reaps, the command its child
}

// Bind is a directory or file of the node that the job sees at another place.
type Bind struct {
	Source   string `json:"source"` // on the node, the same path on every node
	Target   string `json:"target"`
	ReadOnly bool   `json:"read_only,omitempty"`
}

// Rlimit is one setrlimit(2) limit. Name is the kernel's without RLIMIT_, in lower case: "nofile".
// Unlimited stands for no limit.
type Rlimit struct {
	Name string `json:"name"`
	Soft uint64 `json:"soft"`
	Hard uint64 `json:"hard"`
}

// Unlimited is RLIM_INFINITY.
const Unlimited = ^uint64(0)

// Limits are those of the job's cgroup; 0 = none.
type Limits struct {
	MemoryBytes int64 `json:"memory_bytes,omitempty"`
	CPUMilli    int64 `json:"cpu_milli,omitempty"` // thousandths of one CPU
	Pids        int64 `json:"pids,omitempty"`
}

// Network says how the job reaches the world.
type Network struct {
	Mode    string `json:"mode,omitempty"`    // "none" or "" = loopback only; else the name of a bridge of the node
	Address string `json:"address,omitempty"` // with prefix length: 10.0.0.7/24; belongs to the job and moves with it
	Gateway string `json:"gateway,omitempty"`
	MAC     string `json:"mac,omitempty"` // 6 bytes in colon form; "" = made by the agent
}

// NetworkNone is the mode of a job that has its loopback only.
const NetworkNone = "none"

// Bridged tells whether the job has a link to a bridge of the node.
func (n Network) Bridged() bool { return n.Mode != "" && n.Mode != NetworkNone }
