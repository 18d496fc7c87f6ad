// Package affinity is about the processors that a thread may run on, and what becomes of them on
// another node.
//
//	on the source                     on the target
//	thread as at its launch      →    what the node gives to its jobs
//	thread bound to some         →    the same, if the node gives all that the job has bound;
//	                                  else by their order: the job's first to the node's first
//
// A job is placed as a whole. Threads that shared a processor share one again. Threads that had
// processors of their own have them again, if the node gives that many.
package affinity
