// Package pagestore keeps the memory of a job that is on its way.
//
// A store is one data file, written from its start to its end, and a log. The log says
// which pages lie where (log.go). The agent puts pages. The shim, another process, opens the store
// and serves them. A page that is sent again overwrites its earlier version. So rounds of a
// warm-up take no more memory than one.
//
// CRIU's pagemaps are the authority. A page that they do not name as lazy is never served,
// though a warm-up may have sent it (Trim). A page that they name and the store lacks stops
// the restore before the job can run (Gaps, FirstOf).
//
// A Store joins three subjects under one lock: the index says which pages lie where, the
// blocks count the users of each part of the data file, the log makes the index known to
// other processes.
//
// The index of many gigabytes has millions of entries, and the job is frozen while the shim
// learns it. So a shim that waits for its job reads the log along (Follower). It has little
// left to read in the end. An operation on all pages goes through index and pagemaps once,
// in order. It does not look up each page.
package pagestore
