// Package api is what the tests say to the agent in a guest, and what it answers.
//
// It is HTTP over the guest's user-mode network, which only the machine that runs
// QEMU can reach, on 127.0.0.1:
//
//	GET  /ready             200 when the guest is set up
//	POST /configure         Configuration → 204
//	PUT  /clock             Clock → 204, at once
//	POST /exec              Command → Output, one JSON object per line, the last has Exit
//	PUT  /file?path=&mode=  the body becomes the file
//	GET  /file?path=        the file
//	POST /tty               Command → 101, then the bytes of a terminal
package api

import "time"

// Booted begins the line on the console that says that the kernel has booted; the
// frequency of the time stamp counter follows, in Hz. The guest then waits for [Go]
// there before it touches its disk.
const (
	Booted = "guest: booted, counter at "
	Go     = "go\n"
)

// Port is where the agent listens in the guest.
const Port = 1

// Configuration is what tells one guest from another.
type Configuration struct {
	Hostname string `json:"hostname"`
	Address  string `json:"address"` // with prefix length, of the bridge br0 on the segment
	MAC      string `json:"mac"`     // of the interface on the segment
	Seed     []byte `json:"seed"`    // goes into the random numbers; a restored guest must not repeat them
}

// Clock sets the wall clock.
type Clock struct {
	Time time.Time `json:"time"`
}

// Command is a program to run.
type Command struct {
	Args []string `json:"args"`
	Env  []string `json:"env,omitempty"` // beside PATH and HOME
	Dir  string   `json:"dir,omitempty"`
	UID  uint32   `json:"uid,omitempty"`
	GID  uint32   `json:"gid,omitempty"`
	// Detach leaves the program running when it has started; the answer is its
	// pid in Exit, and its output goes to the file Log.
	Detach bool   `json:"detach,omitempty"`
	Log    string `json:"log,omitempty"`
	// Cgroup is the cgroup v2 directory to start it in; it is made.
	Cgroup string `json:"cgroup,omitempty"`
}

// Output is one piece of what a program says.
type Output struct {
	Out  []byte `json:"out,omitempty"`
	Err  []byte `json:"err,omitempty"`
	Exit *int   `json:"exit,omitempty"` // 128+N after signal N
	Fail string `json:"fail,omitempty"` // it could not be run
}
