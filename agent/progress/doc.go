// Package progress sends a user the progress of an operation, as events, and writes the record of a
// move. A user that reads slowly, or not at all, holds up nothing.
package progress
