// Package restore is the target's half of a move, and of a restore from a
// directory. It has two parts in two processes:
//
//	agent                                   shim of the job
//	Receive: lanes → images, page store,    Park: CRIU restores the job around
//	         output files; checked against        userfaultfd and stops before its
//	         CRIU's pagemaps                      first instruction
//	                                        Resume or Drop
//	                                        fault server until every page landed
//
// The agent may end at any time. What must live on with the job, CRIU while it
// holds the job and the server that fills its memory, therefore runs in the
// shim; the two share the images and the page store as files on a tmpfs.
//
// A job is parked in CRIU's post-restore callback: everything exists, nothing
// has run. If the callback is answered with an error, or never because we died,
// CRIU kills what it restored. So the safe outcome is the one that needs nobody.
package restore
