// Package segments carries memory that the job's tasks share and that no path leads to: System
// V segments, memfds, shared anonymous memory, deleted files in memory.
//
// CRIU writes it into its images at the freeze. So the warm-up sends it before, as pages of
// processes that there are not, and then the images refer to what the target has already.
// The target has no half of it: for its page store these are pages as all others.
package segments
