// Package socketoptions carries the options of the job's sockets that CRIU leaves out, and the
// multicast groups that they have joined.
//
//	options.go  the options, one row each
//	groups.go   multicast groups
//	source.go   reads them in the frozen job, while CRIU dumps
//	target.go   sets them in the parked job
//	format.go   what crosses, a file beside CRIU's images
//
// Both sides borrow a socket by its process and descriptor (pidfd_getfd). They compare it with a
// new socket in the job's network: what is the same there is not set. So the usual
// socket costs the target nothing, and a default that differs between two nodes does not change
// what a socket has.
package socketoptions
