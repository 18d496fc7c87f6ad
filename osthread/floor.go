package osthread

import "time"

// Floor decides at which level what gives way to others goes on. It does so at Polite as
// long as that leaves it a tenth of the processor time that it could use. If not, it
// takes turns with the others at higher levels, until it has caught up:
//
//	Polite ──► behind by a turn ──► level 0 ──► behind by far ──► level -10
//	   ▲                               │                              │
//	   └──────── has caught up ────────┴──────────────────────────────┘
//
// So it has all of a processor that nobody else wants, and its floor of a busy one, where
// Polite alone may leave it a hundredth.
type Floor struct {
	behind time.Duration // processor time that it lacks to its floor
	turns  bool          // it does not go on at Polite
	level  int
}

const (
	floor = 10 // one in so many
	// turn is how far behind it gets before it takes its turn: about one of the kernel's
	// slices, so that those of the others stay whole.
	turn = 4 * time.Millisecond
	// far is where level 0 has not helped: more others than floor want the processor.
	far      = 25 * turn
	foremost = -10
)

// After is the level when it has run and has waited for a processor for so long.
func (f *Floor) After(ran, waited time.Duration) (level int) {
	f.behind = max(f.behind+(ran+waited)/floor-ran, -turn)
	switch {
	case f.behind <= 0:
		f.turns = false
	case f.behind > far:
		f.turns, f.level = true, foremost
	case f.behind > turn && !f.turns:
		f.turns, f.level = true, 0
	}
	return f.Level()
}

// Level is what After has said last.
func (f *Floor) Level() int {
	if f.turns {
		return f.level
	}
	return Polite
}
