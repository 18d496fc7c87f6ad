// Package shim is the process that is a job's parent, one per job, and the
// agent's way of talking to it.
//
//	agent ── unix socket, HTTP+JSON ──► shim ── parent of ──► PID 1 of the job
//
// The shim exists so that the agent may come and go. It starts the job, or has
// CRIU restore it, reaps it, writes down how it ended, and cleans up behind it.
// While a restored job's memory is not all in place, the fault server runs here
// too. What it knows it either asks the kernel or writes to the job's record
// before it says so; nothing has to be told to a new agent.
//
// It is this same binary under another name. For a job in the foreground it runs
// in the cgroups of whoever asked, so that a scheduler's accounting, limits and
// kill reach it; else, and on every node that the job moves to, in the agent's.
//
// A shim's life:
//
//	launch ─► running ─► exited            record written, cgroup removed, gone
//	restore ─► waiting ─► parked ─► running
//	                        └─► dropped    nothing ran, nothing left
//	running ─(frozen by the agent)─► released   the job lives on elsewhere
package shim
