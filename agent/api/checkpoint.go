package api

// CheckpointRequest saves a job into a directory of the agent's node.
type CheckpointRequest struct {
	Dir          string `json:"dir"`
	LeaveRunning bool   `json:"leave_running,omitempty"`
	// Verify restores the checkpoint, and drops that, before the job is let go.
	Verify bool `json:"verify,omitempty"`
}

// RestoreRequest starts a job from such a directory.
type RestoreRequest struct {
	Dir        string `json:"dir"`
	Foreground bool   `json:"foreground,omitempty"`
	Clock      string `json:"clock,omitempty"` // continuous (default) or elapsed
	// DeclaredDead are nodes that cannot be asked and, by root's word, do not run the job.
	DeclaredDead []string `json:"declared_dead,omitempty"`
}
