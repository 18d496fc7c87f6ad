package shim

import (
	"log/slog"
	"sync"
	"time"

	"github.com/migrate-hpc/migrate/job"
	"github.com/migrate-hpc/migrate/namespaces/cgroup"
	"github.com/migrate-hpc/migrate/output"
)

// outputLimiter holds a job to its output limit. Nil holds it to none.
type outputLimiter struct {
	files *output.Files
	usage *output.Usage
	uid   uint32
	over  chan struct{} // closed when the job has ended

	cgroup cgroup.Cgroup // the job's
	log    *slog.Logger

	mu   sync.Mutex // the fields below; held for a look
	rule output.Rule
	why  string                   // the job is ended; "" as long as it is not
	keep [len(output.Names)]int64 // what is kept of its output then
}

// check checks once, cuts what is too much, and says when to check again. Once a check has found
// that the job is to end, why is not empty.
func (w *outputLimiter) check() (why string, again time.Duration, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.why != "" {
		return w.why, cutAgain, w.files.Cut(w.keep)
	}
	sizes, err := w.files.Sizes()
	if err != nil {
		return "", time.Second, err
	}
	room, err := w.files.Room()
	if err != nil {
		return "", time.Second, err
	}
	var asked error
	why, keep := w.rule.Look(sizes[0]+sizes[1], room, func() (biggest bool) {
		biggest, asked = w.usage.Biggest(w.uid)
		return biggest
	})
	if why == "" {
		return "", w.rule.Next(room), asked
	}
	w.why, w.keep = why, output.Split(sizes, keep)
	return why, cutAgain, w.files.Cut(w.keep)
}

// newOutputLimiter returns nil if the job's output is not limited.
func newOutputLimiter(cfg Config, store *job.Store, log *slog.Logger) (*outputLimiter, error) {
	o := cfg.Output
	if o == nil {
		return nil, nil
	}
	files, err := output.Open(o.Dir)
	if err != nil {
		return nil, err
	}
	return &outputLimiter{files: files, usage: &output.Usage{Store: store}, uid: o.UID, over: make(chan struct{}),
		cgroup: cfg.Cgroup, log: log, rule: output.Rule{Limit: o.Limit}}, nil
}

// cutAgain is how often the output of a job that ends is cut.
const cutAgain = 20 * time.Millisecond
