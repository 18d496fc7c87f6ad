// Package vm tests the built binary on two machines of their own, emulated by QEMU:
// two kernels, two uptimes, two clocks, and power that can fail. What network
// namespaces on one kernel can show is tested in e2e/node.
//
//	                  the tests
//	      ┌───────────────┼──────────────────┐
//	      │ HTTP          │ QMP              │ HTTP
//	┌─────┴───────────┐   │   pause, save    ┌─────┴───────────┐
//	│ machine a       │◄──┴─────────────────►│ machine b       │
//	│  /guest (PID 1) │                      │  /guest (PID 1) │
//	│  migrate agent  │                      │  migrate agent  │
//	│  br0 10.77.0.1  │                      │  br0 10.77.0.2  │
//	└─────┬───────────┘                      └─────┬───────────┘
//	   eth1│            ┌─────────┐                │eth1
//	      └─────────────┤ Segment ├────────────────┘
//	                    └─────────┘ a hub in this process: cut, mended, slowed
//
// A [Lab] makes machines out of the image that scripts/vm-image has built of Debian
// packages. A [Machine] has a disk of its own, a copy of the image's, which stays
// when its power is cut. Its process 1 is a program of ours, e2e/vm/guest, that does
// what the tests say over a user-mode network which leads nowhere else. A [Cluster]
// is a pair with migrate on it: pure cgroup version 2, an agent in a cgroup of its
// own as a service manager starts it, two accounts besides root. The tests run on two
// clusters, each used in turn: one pair leaves a third of two cores to others.
//
// # Emulation
//
// Where a boot with KVM succeeds it is used; that is tried once and remembered beside
// the image. Otherwise QEMU emulates the processor (TCG): a move of a small job takes
// 3 s, and everything that a test waits for may take long. So nothing here measures
// time, limits are for what hangs, and tests give up when nothing changes any more.
//
// A boot under TCG takes 5 s and more. Most of that is the same each time, so it is
// done once and saved beside the image ([Snapshot]):
//
//	kernel boots ─► modules ─► "booted" ─┬─► disk ─► network ─► agent answers
//	                                     │
//	              saved here; every machine starts from here, with a disk of its own
//
// Nothing of a disk is in a snapshot, so a machine that lost power comes up from it as
// from a boot: its file system is mounted anew, it has another boot id. A start that
// failed is tried once more, with a new boot, which is said.
//
// # Uptimes
//
// MONOTONIC and BOOTTIME start with the machine and cannot be set. They count the time
// stamp counter, which is part of what QEMU saves: [Machine.Older] turns it in the copy
// that a machine starts from, and the second machine has been up for five hours. With
// KVM the counter is kept elsewhere, a boot takes a second, and there is no snapshot.
//
// # Power
//
// [Machine.PowerOff] kills QEMU. What the guest had flushed to its disk is in the file
// by then, what it had not is gone, as in a power cut.
//
// # Clean-up
//
// A QEMU dies with the thread that started it. The directory of a lab is locked; what a
// killed run leaves is removed by the next. A failed test copies the logs of both
// machines and QEMU's command lines to ~/.cache/migrate/vm-failed, and says so.
// `make vm-shell` opens such a pair for a person.
package vm
