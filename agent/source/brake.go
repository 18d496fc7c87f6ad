package source

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/migrate-hpc/migrate/namespaces/cgroup"
)

// Brake throttles a job by its cgroup's CPU limit.
type Brake struct{ Job *Job }

// Set lets the job use percent of the processor time that it uses unthrottled.
func (b *Brake) Set(ctx context.Context, percent int64) error {
	d := b.Job
	if d.unthrottledCPU == 0 {
		milli, err := coresUsed(ctx, d)
		if err != nil {
			return fmt.Errorf("slow the job down: %w", err)
		}
		d.unthrottledCPU = milli
	}
	if err := d.Src.Cgroup.SetCPU(max(1, d.unthrottledCPU*percent/100)); err != nil {
		return fmt.Errorf("slow the job down: %w", err)
	}
	return nil
}

// sampleTime is how long coresUsed measures.
const sampleTime = 200 * time.Millisecond

// coresUsed measures the processor time of a job, in thousandths of a core.
func coresUsed(ctx context.Context, d *Job) (int64, error) {
	before, err := d.Src.Cgroup.CPUTime()
	if err != nil {
		return 0, err
	}
	began := time.Now()
	select {
	case <-ctx.Done():
		return 0, context.Cause(ctx)
	case <-time.After(sampleTime):
	}
	after, err := d.Src.Cgroup.CPUTime()
	if err != nil {
		return 0, err
	}
	return max(10, (after-before)*1000/time.Since(began).Nanoseconds()), nil
}

// Unthrottle gives the job back the speed that its specification allows.
func (j *Job) Unthrottle() error {
	if j.unthrottledCPU == 0 {
		return nil // it was never slowed down
	}
	err := j.Src.Cgroup.SetCPU(j.Rec.Spec.Limits.CPUMilli)
	if err != nil {
		return fmt.Errorf("give the job its speed back: %w", err)
	}
	return nil
}

// UnthrottleAll gives every job here its speed back: an agent that ended in a warm-up may have left
// one throttled.
func (s *Sources) UnthrottleAll() error {
	recs, err := s.Jobs.List()
	errs := []error{err}
	for _, rec := range recs {
		if !rec.Here() || len(rec.Cgroup) == 0 {
			continue
		}
		if err := (&cgroup.Cgroup{Dirs: rec.Cgroup}).SetCPU(rec.Spec.Limits.CPUMilli); err != nil {
			errs = append(errs, fmt.Errorf("job %s: %w", rec.ID, err))
		}
	}
	return errors.Join(errs...)
}
