// Package preflight finds out, before anything is touched, what would make a
// move fail later, or what would be lost by it without a word.
//
//	source                                          target
//	CheckJob ── /proc of every task ──► Findings    (refused: nothing was sent)
//	   └──── Needs ── offer ────────────────────►   CheckNode ──► Findings
//	   └──► CheckImageRoom ──► Findings
//	CheckClocks ◄── clocks, from the hello
//
// A freeze that CRIU then refuses costs the job a downtime and the user the
// search for the reason in a log. All that CRIU refuses is visible from outside
// while the job runs: its tasks, descriptors, mappings, mounts and namespaces.
// What is visible is collected into plain values by small readers (read_*.go) and
// judged by functions that touch nothing (judge_*.go), so that each rule can be
// tested without the device, the kernel or the second node that it is about.
//
// # What a look may do
//
// The job runs on and notices nothing: nothing of it is opened, traced or copied.
// Files are looked at by statx(2) through the magic links in /proc/PID/fd and
// /proc/PID/map_files, with AT_STATX_DONT_SYNC, so that a dead file server holds
// nobody up and an NFS client writes nothing back because of us. Sockets tell
// their protocol in the extended attribute that sockfs gives them. Tasks that end
// while they are looked at are left out.
//
// The job may change between the look and the freeze. CRIU then refuses after
// all, and the job goes on where it is; preflight is for the good message, not
// for safety.
//
// # Which files
//
// CRIU opens by path, on the target, every file that the job has open or mapped,
// and compares type, mode and size, the last unless it is open for appending only.
// A path of the job leads to a file of the node through the root or through a
// bind; what lies on mounts that belong to the job alone travels in the images. A
// file that the job itself writes grows while we look, so its size counts only
// where the target plainly has a different file: neither the same inode number
// nor a network file system.
package preflight
