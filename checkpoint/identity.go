package checkpoint

import (
	"fmt"

	"github.com/migrate-hpc/migrate/criu/image"
	"github.com/migrate-hpc/migrate/identity"
)

// identityRecorder records the identity of the frozen job's threads, while CRIU works.
type identityRecorder struct {
	done chan struct{} // nil: not begun
	job  identity.Job
	err  error
}

// start is called when all tasks are stopped.
func (w *identityRecorder) start(init int) {
	w.done = make(chan struct{})
	go func() {
		defer close(w.done)
		w.job, w.err = identity.Of(init)
	}()
}

func (w *identityRecorder) wait() {
	if w.done != nil {
		<-w.done
	}
}

// save writes the record beside the images. Images with another identity are an error: a target
// would refuse them.
func (w *identityRecorder) save(images string) error {
	w.wait()
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
