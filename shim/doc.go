// Package shim is the parent process of a job, one per job, and the agent's client for it.
//
//	agent ── unix socket, HTTP+JSON ──► shim ── parent of ──► PID 1 of the job
//
// The shim exists so that the agent may come and go. It starts the job, or has CRIU restore
// it. It reaps the job, records how it ended, and cleans up. The fault server of a restored
// job runs here too, until the job's memory is all in place. The shim asks the kernel for
// the state of the job. What the kernel does not know, it writes to the job's record before
// it answers. So a new agent needs no other source.
//
// It is this same binary under another name. The shim of a job in the foreground runs in the
// cgroups of the command that started it. So a scheduler's accounting, limits and kill reach
// it. Any other shim runs in the agent's cgroup, and so does every shim on a target.
//
// The shim changes the state of its job, one change at a time. The service answers the
// agent, and takes the pages in that come while the job is restored: memory is where
// they go. The recorder writes down how the job ended, the outputLimiter holds it to its
// output limit, the guard ends it if the shim is killed while it lacks memory.
//
// A shim's life:
//
//	launch ─► running ─► exited            record written, cgroup removed, gone
//	restore ─► waiting ─► parked ─► running
//	                        └─► dropped    nothing ran, nothing left
//	running ─(frozen by the agent)─► released   the job lives on elsewhere
package shim
