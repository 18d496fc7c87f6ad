package shim

import (
	"github.com/migrate-hpc/migrate/job"
	"github.com/migrate-hpc/migrate/restore"
)

// State is what a shim is doing with its job.
type State string

// The states of a shim; see the package's picture.
const (
	Starting State = "starting"
	Waiting  State = "waiting"
	Parked   State = "parked"
	Running  State = "running"
	Exited   State = "exited"
	Dropped  State = "dropped"
	Released State = "released"
)

// Status is a shim's answer to who it is.
type Status struct {
	State State `json:"state"`
	Shim  int   `json:"shim"` // pid of the shim
	Init  int   `json:"init"` // pid of the job's PID 1 on the node, 0 if there is none
	// Filled and Total count restored memory in bytes; equal once the shim no
	// longer serves faults.
	Filled int64 `json:"filled"`
	Total  int64 `json:"total"`
	// Filling says that not all of it is in place.
	Filling bool `json:"filling,omitempty"`
	// Absent is how much of the total has not arrived on this node yet.
	Absent int64 `json:"absent,omitempty"`
	// Waits says that the running job is frozen until it has locks that its other copy has.
	Waits bool `json:"waits,omitempty"`
	// Exit is how the job ended, while the disk does not take it.
	Exit *job.Exit `json:"exit,omitempty"`
}

// ParkRequest asks a waiting shim to restore and park its job.
type ParkRequest struct {
	Plan restore.Plan `json:"plan"`
	// Volatile is the directory of images and pages; the shim removes it when the
	// job's memory is in place.
	Volatile string `json:"volatile"`
}

type signalRequest struct {
	Signal int `json:"signal"`
}

type markLostRequest struct {
	Why string `json:"why"`
}

// failure is how the shim tells an error.
type failure struct {
	Error string `json:"error"`
}
