// Package copies keeps one copy of a job alive, on whatever node it is restored. A restore asks all
// nodes that may know of the job to grant it. A node that was away learns, when it is back, which of
// its copies are superseded, and ends them.
package copies
