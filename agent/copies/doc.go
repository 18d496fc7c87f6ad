// Package copies keeps one copy of a job alive, whoever restores it. Before a restore all
// nodes that may know of the job are asked, and grant it; a node that was away hears, when
// it is back, which of its copies are superseded, and ends them.
package copies
