// Package target is a job on the node that it comes to: what the node has received, the parked
// copy, and its resume or end.
package target
