package checkpoint

import (
	"fmt"

	"github.com/migrate-hpc/migrate/criu/image"
	"github.com/migrate-hpc/migrate/identity"
)

// witness takes down who the frozen job's threads are, while CRIU works.
type witness struct {
	done chan struct{} // nil: not begun
	job  identity.Job
	err  error
}

// begin comes when all tasks are stopped.
func (w *witness) begin(init int) {
	w.done = make(chan struct{})
	go func() {
		defer close(w.done)
		w.job, w.err = identity.Of(init)
	}()
}

func (w *witness) end() {
	if w.done != nil {
		<-w.done
	}
}

// keep puts the record among the images. It is an error if the images say anything else:
// a target would refuse them.
func (w *witness) keep(images string) error {
	w.end()
	if w.err != nil {
		return fmt.Errorf("who the job's threads are: %w", w.err)
	}
	saved, err := image.Saved(images)
	if err != nil {
		return fmt.Errorf("who the job's threads are: %w", err)
	}
	if err := identity.Compare(saved, w.job, identity.AnyKernel); err != nil {
		return fmt.Errorf("CRIU has saved something else than there is: %w", err)
	}
	for id, t := range w.job.Threads { // CRIU alone can ask, from within
		t.Securebits = saved.Threads[id].Securebits
		w.job.Threads[id] = t
	}
	return image.SetIdentity(images, w.job)
}
