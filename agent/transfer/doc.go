// Package transfer has the operations that take a job from one place to another. Each is a
// move of the handoff: a checkpoint is a move whose target is a directory, a restore one
// whose source is.
//
//	Transfers   Move, Checkpoint, Restore: from the request to the end that its user is told
//	Arrivals    moves whose target is this node: the words of their sources
//	Recovery    goes on with what an earlier agent, or an error, has left
//	Resolver    what an operator decides about a move
//	History     what the records say of moves
package transfer
