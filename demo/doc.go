// Package demo shows, on one machine and within seconds, what migrate is for: a
// running job leaves one node, goes on at another, comes back, and has noticed
// nothing. It is for newcomers, so it says what it does and why before it does it. It
// is for doubters, too, so at the end it claims only what it has verified from the
// job's own output.
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
// and live only as long as the processes in them. So the machine's own network
// never sees the demo's addresses, and nothing remains when those processes end.
//
// The job is this binary, too. Each line that it prints carries a counter, its pid,
// its hostname and its own monotonic clock. It also says how much of its memory it
// has compared, byte by byte, with what must be there. Part of that memory is
// written anew at each tick. So a page that missed the last moment before the
// freeze would be found out.
//
// After an error, a panic or Ctrl-C the demo takes away everything that it made, by
// pid and by path, and names what it could not. Only SIGKILL leaves something: the
// agents end with the demo, the job ends by itself after ten minutes, and the
// directories remain.
package demo
