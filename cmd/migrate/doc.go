// Command migrate runs batch jobs in kernel namespaces of their own and moves
// them, running, from node to node.
//
// A command parses its flags, sends one request to an agent and prints the answer. Two
// commands do more: `agent` runs the agent itself, and a foreground `run` follows its job
// wherever the job moves. It copies the job's output, passes signals on, and ends with the
// job's exit status.
//
//	run ──Wait────► agent ──► agent of the node that the job moved to
//	    ──Logs────►   the agents know where the job is; the follower knows how
//	    ──Signal──►   far it has read each stream
//
// After a restart of the agent, a move of the job or a broken connection the follower does
// the same: it asks again, from the same offset.
//
// Each command has a file of its name. Below them:
//
//	cli, command              a command's environment; cobra helpers
//	operation, progressbar    move, checkpoint and restore report their progress
//	attach, follow, signals   a foreground job
//	print_job, print_move     the tables of inspect
//	failure                   errors as text and as exit status
package main
