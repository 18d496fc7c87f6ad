// Package network gives a job its network interface. It also finds out what differs in a
// job's network namespace from a new one.
//
//	bridge of the node ── host end ══ veth pair ══ the job's end, in its namespace
//	                         │
//	                         └ antispoof: takes in what the job may send, drops the rest
//
// An interface is made, filtered and brought up before the job runs, and joins its bridge
// last ([Interface.Connect]). Until then no peer reaches the address. So a copy that is
// being restored resets no connection of the copy that still runs.
//
// CRIU carries a network namespace by running ip(8) and iptables-save(8), which takes
// time while the job is frozen. A job whose namespace equals a [Baseline] needs none of that:
// the target makes a new one.
package network
