package node

import (
	"os"
	"runtime"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/migrate-hpc/migrate/osthread"
)

// Priority keeps the agent behind the jobs of its node while it sends memory of jobs that
// run, unless one stands still for what it does. What that leaves it has a floor.
type Priority struct {
	set  func(nice int) error
	used func() osthread.Usage // since the last call

	mu      sync.Mutex
	warming int // rounds of jobs that run
	waited  int // moves that a job stands still for
	floor   osthread.Floor
	seen    time.Time
	nice    int
	stop    chan struct{} // ends the looks; nil when nothing is warming
}

// lookEvery is how often it is asked whether the agent has its floor.
const lookEvery = 50 * time.Millisecond

// NewPriority leaves a session alone that is not the agent's own: others are in it, and an
// agent that is killed could not give it its priority back.
func NewPriority() *Priority {
	p := &Priority{set: osthread.Session, used: new(osthread.Process).Since}
	if sid, err := unix.Getsid(0); err != nil || sid != os.Getpid() {
		p.set = func(int) error { return nil }
	}
	return p
}

// Warm is for the time of a warm-up, urgent for that in which a job stands still.
func (p *Priority) Warm() (done func())   { return p.count(&p.warming) }
func (p *Priority) Urgent() (done func()) { return p.count(&p.waited) }

// TakesTurns says that the node's processors are so busy that the warm-up takes turns
// with jobs.
func (p *Priority) TakesTurns() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.warming > 0 && p.waited == 0 && p.floor.Level() != osthread.Polite
}

func (p *Priority) count(n *int) (done func()) {
	p.change(func() { *n++ })
	return sync.OnceFunc(func() { p.change(func() { *n-- }) })
}

func (p *Priority) change(by func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	by()
	switch {
	case p.warming > 0 && p.stop == nil:
		p.floor, p.seen, p.stop = osthread.Floor{}, time.Now(), make(chan struct{})
		_ = p.used()
		go p.look(p.stop)
	case p.warming == 0 && p.stop != nil:
		close(p.stop)
		p.stop = nil
	}
	p.settle()
}

func (p *Priority) settle() {
	nice := 0
	if p.warming > 0 && p.waited == 0 {
		nice = p.floor.Level()
	}
	if nice != p.nice && p.set(nice) == nil { // otherwise it goes on as it did
		p.nice = nice
	}
}

func (p *Priority) look(stop <-chan struct{}) {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		select {
		case <-stop:
			return
		case <-tick.C:
			p.see()
		}
	}
}

// see has the agent take its turn if it has less than its floor of the processors. More
// threads than those cannot want anything.
func (p *Priority) see() {
	p.mu.Lock()
	defer p.mu.Unlock()
	u, now := p.used(), time.Now()
	most := now.Sub(p.seen) * time.Duration(runtime.GOMAXPROCS(0))
	p.seen = now
	p.floor.After(u.Ran, max(0, min(u.Waited, most-u.Ran)))
	p.settle()
}
