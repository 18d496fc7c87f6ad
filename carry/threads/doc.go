// Package threads carries what a thread or process has asked the kernel for, and CRIU forgets:
//
//	of threads     the processors that it is bound to, I/O priority, timer slack
//	of processes   what a core dump of it would contain
//
// What is as usual is not carried. So a job that has nothing of it costs a look at each thread,
// while CRIU works.
//
//	read.go     looks at the frozen job. What is usual is what the node gives at a launch.
//	source.go   has it done beside CRIU's dump
//	format.go   the file beside CRIU's images
//	target.go   sets it on the parked copy, which has not run
//
// Package affinity decides which processors a bound thread gets.
package threads
