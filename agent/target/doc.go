// Package target is a job on the node that it comes to: what was received, the copy that is
// parked, and what becomes of it.
package target
