package logkey

// What a line is about.
const (
	Job     = "job"     // its id
	Move    = "move"    // its id
	Peer    = "peer"    // the other node's name
	Node    = "node"    // this node's name
	Nodes   = "nodes"   // names
	Role    = "role"    // this node's in the move: source or target
	State   = "state"   // of the move
	Epoch   = "epoch"   // of the job: how often it has changed its owner
	Later   = "later"   // an epoch after that
	Kind    = "kind"    // of a move: move, checkpoint or restore
	PID     = "pid"     // of the job's first process, in the node's namespace
	Dir     = "dir"     // a path
	Listen  = "listen"  // an address of this node
	Remote  = "remote"  // an address of another one
	Socket  = "socket"  // a path
	CRIU    = "criu"    // a path
	Request = "request" // a peer's: its name
	Take    = "take"    // whether an operator takes the job for this node
)

// What came of it.
const (
	Err      = "err"
	Why      = "why"      // where there is no error
	Try      = "try"      // a command that helps
	Code     = "code"     // an exit status
	Signaled = "signaled" // whether a signal ended the job
	Bytes    = "bytes"    // a size
	Pause    = "pause"    // how long until the next attempt
)
