// Package demo shows, on one machine and within seconds, what migrate is for: a
// running job leaves one node, goes on at another, comes back, and has noticed
// nothing. A newcomer reads what happens, and why, before it happens. A sceptic reads at
// the end only claims that the job's own output has verified.
//
//	             migrate demo (follows the output, judges)
//	               │ unix socket                │ unix socket
//	┌─ network namespace ──────────┐  ┌─ network namespace ──────────┐
//	│ agent of node-a  10.88.0.1 ──┼veth┼── 10.88.0.2  agent of node-b │
//	│   └ shim └ the counting job ─┼──┼─► shim └ the same job        │
//	└──────────────────────────────┘  └──────────────────────────────┘
//
// The agents are this same binary, started as an operator would start them, each
// with its own directories and certificate. Their network namespaces have no name
// and live as long as the processes in them. So the machine's own network never sees
// the demo's addresses, and nothing remains after the last process.
//
// The job is this binary, too. At each tick it compares a part of its memory with what must
// be there, and rewrites it: a move that loses the last writes before the freeze fails the
// comparison. Each line that it prints has a counter, its pid, its hostname, its own monotonic
// clock and the number of bytes compared.
//
// After an error, a panic or Ctrl-C the demo removes all that it has made, by pid and by
// path. It names what it could not remove. Only SIGKILL leaves something: the agents end with
// the demo, the job ends by itself after ten minutes, and the directories remain.
package demo
