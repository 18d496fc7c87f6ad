// Package socketnames carries the names of the job's Unix sockets in file systems. CRIU unlinks
// each existing one and binds its own socket there. On a file system that both nodes share, that
// takes the name from the job on the source.
//
// So each existing socket is renamed before CRIU runs. It gets its name back as soon as CRIU has
// made the new socket. The new one takes the name only when the job runs here.
//
//	source.go   checks that a target can read the names from the images
//	target.go   renames, and undoes it for a job that will not run here
//
// The format is CRIU's own: see [image.SocketNames].
package socketnames
