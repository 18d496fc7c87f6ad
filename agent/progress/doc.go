// Package progress tells a user how an operation gets on, as events, and writes the record of
// a move. A user that reads slowly, or not at all, holds up nothing.
package progress
