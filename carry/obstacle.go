package carry

// Obstacle is something that a job has and that cannot be carried. As an error it says that
// the job has come to have it since the preflight.
type Obstacle struct {
	Code   string // of a finding of the preflight
	Cause  string
	Remedy string
}

func (o *Obstacle) Error() string { return o.Cause }
