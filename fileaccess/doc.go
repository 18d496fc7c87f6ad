// Package fileaccess asks whether a job's user could open by himself what the job's tasks
// hold of the node's files.
//
// CRIU opens them by path, as root. A path that led to a file of the user's when the job
// opened it may lead through a link into a closed directory when CRIU does:
//
//	~/d/shadow            opened by the job
//	~/d → /etc            a link by the time of the restore
//	/etc/shadow           what a restored job would hold
//
// So every file that a restored task holds must be what its user finds under the name that
// the kernel has for it, with the rights that the descriptor has. It is asked of what is
// held, not of what is going to be opened: nothing can be exchanged in between.
//
// Whoever owns a file can give himself every right to it, so an owner needs only to reach
// it. Not asked about are pipes, sockets and the like, which have no name, memory, and
// what lies on file systems that only the job has.
package fileaccess
