// Package converge decides what comes after each warm-up round of a live move. That is
// another round, the freeze, a slower job, or the end of the attempt.
//
// It is arithmetic on what was measured. The downtime of a freeze right now is
//
//	base + max(walk, walk / processors + looking + sending)
//
// where
//
//	base     what CRIU and the handoff take for any job
//	walk     what CRIU's dump takes, on one processor, for memory that it does not copy
//	looking  the time to read all memory and compare it with what was sent, on all processors
//	sending  the time to send what changed
//
// Looking and sending run beside CRIU. Their rates are those of the rounds so far. The
// time in which the job had the processors does not count: it has none while it is frozen.
//
// The memory that will have changed at the freeze is a rate times a duration. The rate is
// that between the last two looks at a page, the duration that of the last round.
//
//	forecast ≤ limit, and rounds gain little more    → freeze
//	forecast > limit, and rounds still gain          → again
//	forecast > limit, and a round that gave way to
//	the job mostly waited for processors             → again, without giving way
//	forecast > limit, and they do not                → slow the job down, if that is
//	                                                   allowed and not used up; else
//	                                                   post-copy, or freeze all the
//	                                                   same, or give up: the job was
//	                                                   never touched
//
// A limit that the operator named is kept to the letter. The default one gives way
// to what CRIU needs by itself: no number of rounds could change that.
//
// The forecast from dirty rate and bandwidth is that of Clark et al., "Live Migration of
// Virtual Machines" (NSDI 2005). Slowing down the writer is QEMU's auto-converge.
package converge
