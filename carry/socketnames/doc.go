// Package socketnames carries the names that a job's Unix sockets have in file systems. CRIU
// removes each one that is there and binds its own socket to it, which on a file system that
// both nodes see takes the name away from the job on the source.
//
//	source.go   asks whether a target will be able to read the names from the images
//	target.go   puts the sockets that are there aside, has them back as soon as CRIU has made
//	            the others, and gives those the names when the job runs here
//
// The format is CRIU's own: see [image.SocketNames].
package socketnames
