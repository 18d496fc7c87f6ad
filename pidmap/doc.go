// Package pidmap tells a job's pids apart: the number that a task has on the node and
// the number that it has inside its job.
//
//	pid namespaces         node          job            nested in the job
//	/proc/PID/status  NSpid: 4711          7                 1
//	                       Host ▲      Job ▲           (not our business)
//
// CRIU names images by the number inside. The kernel's interfaces that an agent uses
// (process_vm_readv, signals, cgroups) take the number outside. After a move only the
// number inside is the same. The kernel lists a task's numbers from the reader's namespace
// inwards. So the job's column depends on how deep the task's own namespace lies below
// the job's. The namespaces themselves tell that depth (NS_GET_PARENT); the number of
// columns does not.
package pidmap
