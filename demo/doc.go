// Package demo shows, on one machine and within seconds, what migrate is for: a
// running job leaves one node, goes on at another, comes back, and has noticed
// nothing. It is for somebody who has never seen it, so it says what it does and
// why before it does it, and it is for somebody who doubts it, so it claims at
// the end only what it has verified from the job's own output.
//
//	             migrate demo (tells, follows the output, judges)
//	               │ unix socket                │ unix socket
//	┌─ network namespace ──────────┐  ┌─ network namespace ──────────┐
//	│ agent of node-a  10.88.0.1 ──┼veth┼── 10.88.0.2  agent of node-b │
//	│   └ shim └ the counting job ─┼──┼─► shim └ the same job        │
//	└──────────────────────────────┘  └──────────────────────────────┘
//
// The agents are this same binary, started as an operator would start them, each
// with its own directories and certificate. Their network namespaces have no name
// and hang on nothing but the processes in them, so the machine's own network
// never sees the demo's addresses, and nothing remains of them when those
// processes end.
//
// The job is this binary, too. It proves rather than promises: each line that it
// prints carries a counter, its pid, its hostname, its own monotonic clock and
// how much of its memory it has compared, byte by byte, with what must be there.
// Part of that memory is written anew at each tick, so that a page which missed
// the last moment before the freeze would be found out.
//
// Whatever happens, an error, a panic or Ctrl-C, everything that was made is
// taken away again, by pid and by path, and what could not be is named. Only
// SIGKILL leaves something: the agents end with the demo, the job ends by itself
// after ten minutes, and the directories remain.
package demo
