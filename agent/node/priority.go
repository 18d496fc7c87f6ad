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
	warmups int // rounds of jobs that run
	urgent  int // moves that a job stands still for
	floor   osthread.Floor
	sampled time.Time
	nice    int
	stop    chan struct{} // ends the looks; nil when nothing is warming
}

// sampleEvery is how often it is asked whether the agent has its floor.
const sampleEvery = 50 * time.Millisecond

// NewPriority leaves a session alone that is not the agent's own: others are in it, and an
// agent that is killed could not give it its priority back.
func NewPriority() *Priority {
	p := &Priority{set: osthread.Session, used: new(osthread.Process).Since}
	if sid, err := unix.Getsid(0); err != nil || sid != os.Getpid() {
		p.set = func(int) error { return nil }
	}
	return p
}

// WarmUp is for the time of a warm-up, urgent for that in which a job stands still.
func (p *Priority) WarmUp() (done func()) { return p.count(&p.warmups) }
func (p *Priority) Urgent() (done func()) { return p.count(&p.urgent) }

// Yields says that the node's processors are so busy that the warm-up takes turns
// with jobs.
func (p *Priority) Yields() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.warmups > 0 && p.urgent == 0 && p.floor.Level() != osthread.Polite
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
	case p.warmups > 0 && p.stop == nil:
		p.floor, p.sampled, p.stop = osthread.Floor{}, time.Now(), make(chan struct{})
		_ = p.used()
		go p.watch(p.stop)
	case p.warmups == 0 && p.stop != nil:
		close(p.stop)
		p.stop = nil
	}
	p.apply()
}

func (p *Priority) apply() {
	nice := 0
	if p.warmups > 0 && p.urgent == 0 {
		nice = p.floor.Level()
	}
	if nice != p.nice && p.set(nice) == nil { // otherwise it goes on as it did
		p.nice = nice
	}
}

func (p *Priority) watch(stop <-chan struct{}) {
	tick := time.NewTicker(sampleEvery)
	defer tick.Stop()
	for {
		select {
		case <-stop:
			return
		case <-tick.C:
			p.sample()
		}
	}
}

// sample has the agent take its turn if it has less than its floor of the processors. More
// threads than those cannot want anything.
func (p *Priority) sample() {
	p.mu.Lock()
	defer p.mu.Unlock()
	u, now := p.used(), time.Now()
	most := now.Sub(p.sampled) * time.Duration(runtime.GOMAXPROCS(0))
	p.sampled = now
	p.floor.After(u.Ran, max(0, min(u.Waited, most-u.Ran)))
	p.apply()
}
