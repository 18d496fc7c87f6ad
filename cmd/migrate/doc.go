// Command migrate runs batch jobs in kernel namespaces of their own and moves
// them, running, from node to node.
//
// A command here only parses and prints: flags → options → one request to an
// agent → what came of it. The two exceptions are `agent`, which becomes one, and
// a foreground `run`, which stays with its job wherever that goes: it copies the
// job's output, passes signals on, and ends with the job's exit status.
//
//	run ──Wait────► agent ──► agent of the node that the job moved to
//	    ──Logs────►   where the job has gone is the agents' business; what the
//	    ──Signal──►   follower keeps is how far it has read each stream
//
// An agent that restarts, a job that moves and a connection that breaks all look
// the same from here: ask again, from the same offset.
package main
