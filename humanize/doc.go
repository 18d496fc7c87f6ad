// Package humanize shows sizes and durations the way people read them, so that a
// command's output and a report's tables say the same thing of the same number.
package humanize
