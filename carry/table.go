package carry

import (
	"context"
	"time"
)

// Table has a row for each resource. At every stage the rows have their turn in its order.
type Table []Resource

// Sources makes the source's halves for a job.
func (t Table) Sources(j Job) (all []Source) {
	for _, r := range t {
		if r.Source != nil {
			all = append(all, r.Source(j))
		}
	}
	return all
}

// Receivers makes those of the agent to which a job comes.
func (t Table) Receivers() (all []Receiver) {
	for _, r := range t {
		if r.Receiver != nil {
			all = append(all, r.Receiver())
		}
	}
	return all
}

// Restorers makes those of the shim that restores a job.
func (t Table) Restorers(e Env) (all []Restorer) {
	for _, r := range t {
		if r.Restorer != nil {
			all = append(all, r.Restorer(e))
		}
	}
	return all
}

// Mounts are where every job has a resource mounted.
func (t Table) Mounts() (at []string) {
	for _, r := range t {
		at = append(at, r.Mounts...)
	}
	return at
}

// BuiltMounts are those of Mounts that arrive with their content, built by a [Receiver].
func (t Table) BuiltMounts() (at []string) {
	for _, r := range t {
		if r.Receiver != nil {
			at = append(at, r.Mounts...)
		}
	}
	return at
}

// Carries tells whether files on a file system of this kind are a resource.
func (t Table) Carries(magic int64) bool {
	for _, r := range t {
		if r.Magic != 0 && r.Magic == magic {
			return true
		}
	}
	return false
}

// Check finds what a running job cannot take along.
func (t Table) Check(init int) (found []*Obstacle, err error) {
	for _, r := range t {
		if r.Check == nil {
			continue
		}
		o, err := r.Check(init)
		if err != nil {
			return nil, err
		}
		if o != nil {
			found = append(found, o)
		}
	}
	return found, nil
}

// Passing finds what the job has at this moment, and cannot take along.
func (t Table) Passing(init int) (*Obstacle, error) {
	for _, r := range t {
		if r.Passing == nil {
			continue
		}
		if o, err := r.Passing(init); o != nil || err != nil {
			return o, err
		}
	}
	return nil, nil
}

// Lasting finds what has not passed within patience.
func (t Table) Lasting(ctx context.Context, init int, patience time.Duration) (*Obstacle, error) {
	const pause = 5 * time.Millisecond
	for end := time.Now().Add(patience); ; {
		o, err := t.Passing(init)
		if o == nil || err != nil || time.Now().After(end) {
			return o, err
		}
		select {
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		case <-time.After(pause):
		}
	}
}
