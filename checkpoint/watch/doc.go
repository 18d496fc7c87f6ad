// Package watch has the kernel keep track of what a process writes to its memory,
// on kernels without soft-dirty bits.
//
// userfaultfd can protect pages against writing and, in its asynchronous mode
// (Linux 6.7), lift the protection at the first write by itself: nobody is told and
// nobody waits, the write costs one minor fault. PAGEMAP_SCAN then lists the pages
// that are not protected any more and protects them again in the same step, so no
// write falls between looking and resetting, and the process never stops.
//
// A userfaultfd belongs to the address space of the process that makes it. So for
// the length of one system call the process is made to work for us:
//
//	stop all its threads          PTRACE_SEIZE, PTRACE_INTERRUPT: no signals are seen
//	run userfaultfd(2) in one     at a syscall instruction of its vdso, registers kept
//	take the descriptor           pidfd_getfd
//	run close(2), let all go      0.1 to some ms, by its threads
//
// All threads are stopped, because one that forks meanwhile would give its child the
// descriptor. A process with a seccomp filter, a 32-bit one, one that is traced by
// somebody else or stopped is left alone: the filter may kill for an unknown call.
// For these, and on other architectures, Attach says ErrCannot and the caller
// compares all memory instead.
//
// Nothing of it outlives the descriptor, and that ends with us: if the agent dies
// the kernel forgets the protection. CRIU must not meet it, so it is closed before
// a dump.
//
// Mappings that are made later, by mmap, mremap, fork or exec, are not protected, and
// all their pages are listed when they are first looked at. Kernels before 6.13
// carry the protection of a page along with mremap, which would hide pages that
// moved; Supported tries that.
package watch
