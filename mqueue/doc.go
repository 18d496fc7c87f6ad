// Package mqueue carries POSIX message queues over a checkpoint.
//
// CRIU keeps System V queues and the limits of POSIX ones, but neither the POSIX
// queues nor what is in them: it refuses a /dev/mqueue that is not empty, and a
// job that holds a queue open cannot come back. So /dev/mqueue is external to
// CRIU. This package saves the queues while the job is frozen. It makes them again
// when CRIU has set up the new ipc namespace and opened nothing in it yet.
//
//	frozen: Save    open each queue through the job's own /dev/mqueue, take every
//	                message out, put them all back in the same order
//	restore: Mount  the new namespace's queues, for CRIU to bind at /dev/mqueue
//	         Make   create, fill, give to its owner
//
// Taking out and putting back is invisible: the queue orders by priority and, in
// each priority, by arrival, and the order of taking out is the order of putting
// in. A frozen task waits in no queue: the freezer has made it leave its system
// call, which it will start again (kernel/freezer.c, kernel/cgroup/freezer.c).
// A task that asked to be notified (mq_notify) would lose that, and be told at the source
// when the messages are put back; see Notified.
package mqueue
