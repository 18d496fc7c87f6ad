package agent

import (
	"os"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/migrate-hpc/migrate/thread"
)

// pace keeps the agent behind the jobs of its node while it sends memory of jobs that
// run, unless one stands still for what it does.
type pace struct {
	set func(nice int) error

	mu      sync.Mutex
	warming int // rounds of jobs that run
	waited  int // moves that a job stands still for
	nice    int
}

// newPace leaves a session alone that is not the agent's own: others are in it, and an
// agent that is killed could not give it its priority back.
func newPace() *pace {
	if sid, err := unix.Getsid(0); err != nil || sid != os.Getpid() {
		return &pace{set: func(int) error { return nil }}
	}
	return &pace{set: thread.Session}
}

// warm is for the time of a warm-up, urgent for that in which a job stands still.
func (p *pace) warm() (done func())   { return p.count(&p.warming) }
func (p *pace) urgent() (done func()) { return p.count(&p.waited) }

func (p *pace) count(n *int) (done func()) {
	p.change(n, 1)
	return sync.OnceFunc(func() { p.change(n, -1) })
}

func (p *pace) change(n *int, by int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	*n += by
	nice := 0
	if p.warming > 0 && p.waited == 0 {
		nice = thread.Polite
	}
	if nice != p.nice && p.set(nice) == nil { // otherwise it goes on as it did
		p.nice = nice
	}
}
