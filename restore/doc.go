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
//	                                        fault server until every page arrived
//
// The last of a job's memory arrives while CRIU restores it. After the hand-over only the
// shim writes to the page store. So no page changes while the shim serves it. Before
// EndPush the fault server serves nothing: the last version of a page may still be under
// way. A task that touches memory before that waits. CRIU's
// restorer does so here and there.
//
// The agent may end at any time. Two things must outlive it: CRIU while it holds the job,
// and the server that fills the job's memory. So both run in the shim. Agent and shim
// share the images and the page store as files on a tmpfs.
//
// A job is parked in CRIU's post-restore callback: everything exists, nothing has run. If
// the shim answers with an error, or dies before it answers, CRIU kills what it restored.
// So the safe outcome needs no action.
package restore
