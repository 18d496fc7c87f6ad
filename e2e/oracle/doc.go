// Package oracle is the job that the tests and the demonstration move about. It keeps
// state of every kind that a move has to carry, checks all of it again and again, and
// ends with a message as soon as something is not what it should be. So a test needs to
// know only two things: the job is still there, and [Judge] finds nothing in its output.
//
// The job is one C program without dependencies, oracle.c; [Build] compiles it once per
// content into the user's cache. Flags may be combined:
//
//	--count            print a tick every 10 ms
//	--mem MIB          private memory: half random, a quarter text, a quarter zero; and 64
//	                   pages that may not be read between two checks
//	--fields           instead: a third double precision numbers, a third text, a third zero
//	--check MIB        verify this much of it per second (256)
//	--dirty PCT        rewrite this percentage of its pages per second, at random
//	--spin             a thread that computes, and a line about it with every tick
//	--tree N           N child processes, two threads each, with tokens going round in
//	                   pipes; copy-on-write and shared memory, a process-shared mutex, a
//	                   zombie, short-lived children, pending blocked signals, an interval
//	                   timer, a timerfd, sleeps
//	--sysv             System V shared memory, semaphores, messages (--key N)
//	--mqueue           a POSIX message queue with messages in it (--mq-name NAME)
//	--locks            flock and fcntl locks, looked at by another process (--dir DIR)
//	--deleted          an open file without a name (--dir DIR)
//	--socket           a Unix socket with a name, called by it (--dir DIR)
//	--shared MIB       as much of memory in a file of /dev/shm, in one without a name, in a
//	                   System V segment, in a memfd and mapped without a file, each written
//	                   by three processes (at the rate of --dirty) that tell each other
//	--tcp-listen PORT  echo server; 0 picks a port
//	--seed N           another content of the memory
//	--seconds N        end after N seconds of CLOCK_MONOTONIC
//	--exit CODE        with this code; without --seconds after the first tick
//
// Standard output, one write(2) per line:
//
//	tick COUNTER MONOTONIC BOOTTIME REALTIME PID PPID HOSTNAME    (clocks in ns)
//	loops COUNT REALTIME                       of --spin: rounds of its loop so far
//	sysv key=N shm=N sem=N msg=N
//	tcp port=N
//	ready                                      everything is set up
//	ok count=N mem=N … failures=N              upon SIGUSR1: checks made, per kind
//	bye                                        the end, by SIGTERM (code 0) or --seconds
//
// A failed check prints "ORACLE FAIL kind details" to standard error. Exit codes: 2 could
// not be set up, 31 the counter is damaged, 32 a clock went back, 33 any other check.
//
// No check measures how long anything took, because a move may hold the job at any
// instruction. How long its downtime was is for Judge to tell, from the ticks.
//
// # Breaker
//
// The oracle keeps still what it does not write. The second program, breaker.c, is for the
// jobs that do not: it does with its memory, one of these at a time, what makes it hard to
// tell which pages a move still has to send, or has to bring in later.
//
//	breaker ROLE [--seconds N]
//
//	random       three threads write pages, words, copies and zeros at random in 48 MiB
//	aligned      as random, and a thread waits with its stack pointer at the start of a page
//	forks        up to four children, and theirs, that live for a moment, and change and
//	             check what they inherited
//	remap        mremap: pieces of 2 MiB and 16 KiB change places, are lifted off their
//	             mapping and put back; a mapping grows, shrinks and moves
//	discard      two threads: MADV_DONTNEED, MADV_FREE, munmap and mmap at the same address
//	huge         words in huge pages, which are split, given up and collapsed
//	threads      200, that write their stacks and pages side by side, sleep, wait for
//	             each other and count together
//	userfaultfd  as random, and holds a userfaultfd, which no move can take along
//
// It prints "area ADDRESS PAGES", "ready", "ok N" when all of its memory has been found
// right N times, and "bye" upon SIGTERM or after N (300) seconds, after a last look. At the
// first wrong byte it prints "BAD" with what is there and what should be, and ends with
// code 33. [JudgeBreaker] reads that.
package oracle
