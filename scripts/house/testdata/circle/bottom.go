package circle

// store is used from above, and uses what is above it.
type store struct{ n int }

func (s *store) grow() { s.n = limit() }

var _ = (*store).grow
