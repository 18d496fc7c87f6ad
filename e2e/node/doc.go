// Package node tests the built binary on two or three nodes of one machine, with
// real CRIU and real namespaces.
//
//	 netns n1                      netns n2                      netns n3
//	┌──────────────────┐  veth   ┌──────────────────┐  veth   ┌──────────────────┐
//	│ br0 10.99.0.1 ───┼─────────┼── br0 10.99.0.2 ─┼─────────┼── br0 10.99.0.3  │
//	│ br1 (no link)    │         │   br1            │         │   br1            │
//	│ agent            │         │   agent          │         │   agent          │
//	└──────────────────┘         └──────────────────┘         └──────────────────┘
//	  own state and run directory, own certificate, own mount namespace
//
// What nodes of one machine share is the kernel, its clocks and its file system;
// what depends on their being different is for machines of their own. So that a
// path can be missing on one node only, each agent has a mount namespace of its
// own, in which a test may cover a directory.
//
// The tests know the program as its users do: by its flags, its exit status, its
// JSON and its messages. Nothing of its packages is imported but the oracle, with
// the jobs that check themselves. Most tests come down to three claims: the verb ended
// with the right status, the job is where it should be, and the oracle's output,
// read from its first byte, has no gap, no double and no step back in time.
//
// Clusters know nothing of each other. Tests that wait more than they work, for what
// they broke, run side by side; those about load and speed run alone.
//
// Every cluster ends with a search for what it may have left behind: processes,
// cgroups, interfaces, mounts, shared memory, half a move. Finding any fails the
// test.
package node
