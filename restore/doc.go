// Package restore is the target's half of a move, and of a restore from a
// directory. It has two parts in two processes:
//
//	agent                                   shim of the job
//	Receive: lanes → images, output files,
//	         page store
//	the store's log, as it grows ─ ─ ─ ─ ─► read along by a shim that waits
//	HandOver, when images are complete ───► Open: fault server, page store
//	         lanes ── the rest ───────────► pages kept
//	                                        Park: CRIU restores the job around
//	                                              userfaultfd and stops before its
//	                                              first instruction
//	         all lanes have ended ────────► EndPush: checked against CRIU's pagemaps
//	                                        Resume or Drop
//	                                        fault server until every page landed
//
// The last of a job's memory arrives while CRIU restores it. From the hand-over on the
// shim alone owns the page store, so that what it serves cannot change behind its back.
// Until EndPush it serves nothing: what the store has may be an older version, of a
// warm-up, and the newer one still under way. Tasks that touch memory before that, as
// CRIU's restorer does here and there, wait.
//
// The agent may end at any time. What must live on with the job, CRIU while it
// holds the job and the server that fills its memory, therefore runs in the
// shim; the two share the images and the page store as files on a tmpfs.
//
// A job is parked in CRIU's post-restore callback: everything exists, nothing
// has run. If the callback is answered with an error, or never because we died,
// CRIU kills what it restored. So the safe outcome is the one that needs nobody.
package restore
