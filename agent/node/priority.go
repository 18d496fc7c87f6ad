package node

import (
	"os"
	"runtime"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/migrate-hpc/migrate/osthread"
)

// Priority lowers the agent's priority below that of jobs while it sends memory of running jobs,
// unless a job is frozen for a move. osthread.Floor keeps a minimum of the processors for it.
type Priority struct {
	set  func(nice int) error
	used func() osthread.Usage // since the last call

	mu      sync.Mutex
	warmups int // warm-up rounds under way
	urgent  int // moves with a frozen job
	floor   osthread.Floor
	sampled time.Time
	nice    int
	stop    chan struct{} // ends watch; nil without a warm-up
}

// sampleEvery is how often the agent compares its processor time with the floor.
const sampleEvery = 50 * time.Millisecond

// NewPriority changes nothing unless the agent leads its session: the priority of a session is for
// all processes in it, and a killed agent could not restore it.
func NewPriority() *Priority {
	p := &Priority{set: osthread.Session, used: new(osthread.Process).Since}
	if sid, err := unix.Getsid(0); err != nil || sid != os.Getpid() {
		p.set = func(int) error { return nil }
	}
	return p
}

// WarmUp lowers the priority until done is called.
func (p *Priority) WarmUp() (done func()) { return p.count(&p.warmups) }

// Urgent restores the priority, for the downtime of a job, until done is called.
func (p *Priority) Urgent() (done func()) { return p.count(&p.urgent) }

// Yields tells whether the processors are so busy that the warm-up shares them with jobs by the
// floor.
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
	if nice != p.nice && p.set(nice) == nil { // else the priority stays
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

// sample raises the priority for a while if the agent got less of the processors than its floor.
// Waiting threads count up to the number of processors.
func (p *Priority) sample() {
	p.mu.Lock()
	defer p.mu.Unlock()
	u, now := p.used(), time.Now()
	most := now.Sub(p.sampled) * time.Duration(runtime.GOMAXPROCS(0))
	p.sampled = now
	p.floor.After(u.Ran, max(0, min(u.Waited, most-u.Ran)))
	p.apply()
}
