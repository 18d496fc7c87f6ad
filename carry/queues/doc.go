// Package queues carries a job's POSIX message queues. The kernel's side of it is package
// mqueue. To CRIU /dev/mqueue is external.
//
//	source.go   saves the queues of the frozen job, and finds the open ones, which CRIU
//	            saves as external files. When it has, their records are told the names in
//	            /dev/mqueue, and CRIU opens them by itself at the restore.
//	target.go   mounts the queues of the new ipc namespace for CRIU, and makes them again
//	format.go   the file beside CRIU's images
package queues
