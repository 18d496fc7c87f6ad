// Package pagestore keeps the memory of a job that is on its way.
//
// One data file, written from its start to its end, and a log that says which
// pages lie where (log.go). The agent puts, another process, the shim, opens and
// serves. A page that is sent again overwrites its earlier version, so rounds of
// a warm-up take no more memory than one. CRIU's pagemaps are the authority: a
// page that they do not name as lazy is never served, though a warm-up may have
// sent it (Trim), and one that they name and the store lacks stops the restore
// before the job can run (Missing, EndPush).
//
// The index of many gigabytes has millions of entries, and the job is frozen while
// the shim learns it. So a shim that waits for its job reads the log along (Follower)
// and has little left to read in the end; and what concerns all pages goes through index
// and pagemaps once, in order, instead of looking each page up.
package pagestore
