// Package threads carries what a thread or process has asked the kernel for, and CRIU forgets:
//
//	of threads     the processors that it is bound to, I/O priority, timer slack; from within also
//	               the memory policy, the personality, when it hears of failed memory
//	of processes   what a core dump of it would contain; from within also whether pages are
//	               merged, and policies, seals and locks of parts of its memory
//
// What is as usual is not carried. So a job that has nothing of it costs a look at each thread and
// its page tables, while CRIU works. What is usual is what the node gives at a launch.
//
//	look.go     looks at the frozen job; read.go at a thread, memory.go and policy.go at memory
//	source.go   has it done beside CRIU's dump
//	format.go   the file beside CRIU's images
//	target.go   sets on the parked copy what can be set from outside
//	mend.go     has the threads set the rest themselves, before they run on
//
// Of memory policies /proc shows what holds for a mapping: its own or that of the thread that was
// asked for. The first mapping, that of the program, is taken for one without a policy of its own.
//
// Package affinity decides which processors a bound thread gets.
package threads
