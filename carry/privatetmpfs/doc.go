// Package privatetmpfs carries the file systems in memory that every job has for itself, at
// /dev, /dev/shm and /tmp. Package tmpfs reads and builds them; to CRIU they are external.
//
//	source.go   sends content in rounds, and names once, when CRIU has written its images
//	target.go   builds them, attached nowhere; the plan of the restore says where CRIU finds them
//
// What crosses are two kinds of streams. A [stream.TmpfsHead] heads each, and frames of
// package tmpfs follow.
package privatetmpfs
