package handoff

import "crypto/rand"

// An epoch is a line and a number within it:
//
//	generation   random, 16 bits   number, 24 bits
//	└────────── line ───────────┘
//
// Moves and restores count the number up, and at most one copy of a line can run: the handoff and the
// grants see to that. A restore for which an operator declared a node dead begins a new line, above
// all that were seen, because it may be the second copy of the job if the operator was wrong. So a
// copy of an older line than another that runs, or ran, is the wrong one and ends; two copies of one
// line cannot be told apart so. Two operators may begin a generation at a time without knowing of each
// other: the random bits tell their lines apart.
const (
	numberBits = 24
	randomBits = 16
)

// Line is the line that an epoch belongs to. A job that was never brought back past a dead node is in
// line 0.
func Line(epoch int64) int64 { return epoch >> numberBits }

// NextLine is the first epoch of a new line above an epoch.
func NextLine(epoch int64) int64 {
	var r [2]byte
	rand.Read(r[:]) // never fails since Go 1.24
	return nextLine(epoch, int64(r[0])<<8|int64(r[1]))
}

func nextLine(epoch, random int64) int64 {
	generation := epoch>>(numberBits+randomBits) + 1
	return (generation<<randomBits | random) << numberBits
}

// Supersedes tells whether a copy with one epoch is the job, and one with the other must end.
func Supersedes(epoch, other int64) bool { return Line(epoch) > Line(other) }
