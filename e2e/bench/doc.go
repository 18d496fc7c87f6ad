// Command bench measures moves side by side with what a user would otherwise do, in one
// run, on the same job, and prints ratios. It asserts nothing: how fast a machine is, is
// no property of the code, but how much faster one way is than the other nearly is. It
// ends with status 1 only if something broke. A peer that cannot be run here leaves its
// column empty, and the table says why.
//
//	         one machine, all ways over its loopback
//	migrate  bench-a ── migrate move ────────────────────────────────────► bench-b
//	pipe     criu dump → tmpfs → tar | zstd -1 | TCP | zstd -d | tar → tmpfs → criu restore
//	podman   podman container checkpoint --export, rm, podman container restore --import
//
// The job is an oracle with private memory, half random, a quarter text, a quarter zero,
// that rewrites 1 % of its pages per second at random places, a few every 10 ms.
//
// The clock of all is the job's own. The oracle writes a tick with the wall clock
// every 10 ms, and the downtime is the largest step from one tick to the next over
// the move, less a normal step. So it does not matter what either way believes about
// itself, and everything that holds up the job counts. The wall clock is the one that no
// way changes. The ways take turns, each time with a new job; a ratio is that of one
// pair. Rows that ask for the same move in the same round share it. Each way is tried
// with a small job before it is first measured.
//
// The pipe is to be as good as such a pipe can be: images on a tmpfs, no debug log, the
// results of CRIU's probes kept on a tmpfs, no locking of the network, nothing stored
// between tar and tar, blocks of 1 MiB, output files that both ends share. Its job is
// started by the same agent in the same namespaces as ours.
//
// podman is used as its manual says, with zstd, runc and the same CRIU, without a network.
// Nothing of it is where podman would put it otherwise. Source and target are one machine,
// so that no time goes by for copying the archive. Its storage and the archive are on the
// tmpfs if the machine has the room, else on a disk, and then the table says so.
//
// # Memory
//
// The source's is the largest resident size of its agent, as the kernel keeps it
// (VmHWM, set back before the move through clear_refs, see proc_pid_status(5)). CRIU's
// images are on a tmpfs and in no process's resident size.
//
// The target's is the largest sum, looked at every 5 ms until all of the job's memory is
// in place, of three parts that have no page in common: anonymous and program pages of
// the agent and all processes beneath it (shim, CRIU, the job); pages of shared memory of
// those but agent and shim; and the blocks in use of the files in the agent's directory on
// the tmpfs. The last is the page store, which agent and shim have mapped as well: hence
// the exception. The job's size is its resident size on the source. A quarter of the
// oracle's pages are zero, which a target need not hold.
//
// # Environment
//
//	BENCH=NAME         run one row
//	BENCH_ROUNDS=N     so many rounds (3)
//	BENCH_JSON=FILE    write the table as JSON as well
//	BENCH_MEM=MIB      no job is larger, to try things out; the names stay
//	MIGRATE_BIN        the program to measure (bin/migrate)
//	MIGRATE_CRIU       the CRIU of both ways (the one that setup installed, or in PATH)
package main
