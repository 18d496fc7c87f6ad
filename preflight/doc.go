// Package preflight finds out what would make a move fail later, or what it would lose
// silently. It touches nothing.
//
//	source                                          target
//	CheckJob ── /proc of every task ──► Findings    (refused: nothing was sent)
//	   └──── Needs ── offer ────────────────────►   CheckNode ──► Findings
//	   └──► CheckImageRoom ──► Findings
//	CheckClocks ◄── clocks, from the hello
//
// If CRIU refuses a frozen job, the job has lost a downtime. The user has to search a log
// for the reason. All that CRIU refuses is visible from outside while the job runs: its
// tasks, descriptors, mappings, mounts and namespaces. Small readers (read_*.go) collect it
// into plain values. Functions that touch nothing judge them (judge_*.go). So each rule can
// be tested without the device, the kernel or the second node that it is about.
//
// # What a look may do
//
// The job runs on and notices nothing: preflight opens, traces and copies nothing of it.
// It reads files by statx(2) through the magic links in /proc/PID/fd and /proc/PID/map_files.
// With AT_STATX_DONT_SYNC it does not wait for a dead file server, and an NFS client writes
// nothing back. Sockets tell their protocol in the extended attribute of sockfs. A task that
// ends during the look is left out.
//
// The job may change between the look and the freeze. So it is looked at again before the freeze,
// and in the downtime for what is new ([Look.News]). What neither sees CRIU refuses after all, and
// the job goes on where it is. Preflight is for the good message, not for safety.
//
// # Which files
//
// On the target CRIU opens every file that the job has open or mapped, by path. It compares
// type and mode. It also compares the size, unless the file is open for appending only. A
// path of the job leads to a file of the node through the root or through a bind. Files on
// the job's own mounts travel in the images. A file that the job writes grows during the
// look. So its size counts only where the target plainly has a different file. That is one
// with another inode number, on a file system that is not shared.
package preflight
