package circle

// Serve reaches down, to a function and to a method.
func Serve() int { return new(store).get() + limit() }
