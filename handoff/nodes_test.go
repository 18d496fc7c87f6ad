package handoff

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"testing"

	"github.com/migrate-hpc/migrate/testenv"
)

// Two agents in one process: real journals and fences on disk, the engine as it is, and a job that
// keeps count of its copies in place of the kernel.

var (
	errCrashed     = errors.New("the agent has crashed")
	errUnreachable = errors.New("the peer cannot be reached")
)

// kernel is what both nodes' kernels know about the job. It outlives the agents.
type kernel struct {
	mu             sync.Mutex
	src, tgt       copyState
	srcRan, tgtRan bool
	faults         []string
}

func (k *kernel) change(f func()) {
	k.mu.Lock()
	defer k.mu.Unlock()
	f()
	if k.src == running && k.tgt == running {
		k.faults = append(k.faults, "two copies run")
	}
	if k.srcRan && k.tgtRan {
		k.faults = append(k.faults, "both copies have run since the freeze")
	}
}

// agent is one node's agent. It crashes at its n-th step: that step, and all that follow, fail
// until it is started again.
type agent struct {
	dir  string
	boot string

	mu    sync.Mutex
	steps int
	limit int // crash at this step; below 0 never
	dead  bool

	j     *Journal
	fence *Fence
	half  *TargetHalf
}

func (a *agent) step() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.limit >= 0 && a.steps >= a.limit {
		a.dead = true
	}
	a.steps++
	if a.dead {
		return errCrashed
	}
	return nil
}

func (a *agent) crashed() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.dead
}

// around makes f a step that may crash before or after it took effect.
func (a *agent) around(f func() error) error {
	if err := a.step(); err != nil {
		return err
	}
	if err := f(); err != nil {
		return err
	}
	return a.step()
}

// crashingDisk loses its agent before or after a write.
type crashingDisk struct {
	disk
	a *agent
}

func (d crashingDisk) Append(path string, line []byte) error {
	return d.a.around(func() error { return d.disk.Append(path, line) })
}

func (d crashingDisk) Replace(path string, data []byte) error {
	return d.a.around(func() error { return d.disk.Replace(path, data) })
}

// open starts the agent, for the first time or again.
func (a *agent) open(t *testing.T) {
	t.Helper()
	if a.j != nil {
		if err := a.j.Close(); err != nil {
			t.Fatal(err)
		}
	}
	var err error
	if a.j, err = openJournal(filepath.Join(a.dir, "journal"), crashingDisk{realDisk{}, a}); err != nil {
		t.Fatal(err)
	}
	if a.fence, err = OpenFence(filepath.Join(a.dir, "fence")); err != nil {
		t.Fatal(err)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.dead {
		a.dead, a.limit = false, -1
	}
}

func (a *agent) engine() Engine {
	return Engine{Journal: a.j, Fence: a.fence, Boot: a.boot, Observe: func(Record) {}}
}

type sourceJob struct {
	a *agent
	k *kernel
}

func (s sourceJob) do(f func() error) error {
	return s.a.around(func() (err error) {
		s.k.change(func() { err = f() })
		return err
	})
}

func (s sourceJob) Freeze(context.Context) error {
	return s.do(func() error {
		if s.k.src == running {
			s.k.src = frozen
		}
		return nil
	})
}

func (s sourceJob) Transfer(ctx context.Context) error { return s.a.step() }

func (s sourceJob) StillFrozen(context.Context) error {
	return s.do(func() error {
		if s.k.src != frozen {
			return errors.New("the job is not frozen")
		}
		return nil
	})
}

func (s sourceJob) Thaw(context.Context) error {
	return s.do(func() error {
		if s.k.src == frozen {
			s.k.src, s.k.srcRan = running, true
		}
		return nil
	})
}

func (s sourceJob) Release(context.Context) error {
	return s.do(func() error { s.k.src = dead; return nil })
}

type targetJob struct {
	a *agent
	k *kernel
}

func (t targetJob) do(f func() error) error { return sourceJob(t).do(f) }

func (t targetJob) Prepare(ctx context.Context) error {
	return t.do(func() error { t.k.tgt = parked; return nil })
}

func (t targetJob) StillParked(context.Context) error {
	return t.do(func() error {
		switch {
		case t.k.tgtRan:
			return ErrRuns
		case t.k.tgt == dead:
			return ErrGone
		}
		return nil
	})
}

func (t targetJob) Resume(context.Context) error {
	return t.do(func() error {
		switch {
		case t.k.tgt == parked:
			t.k.tgt, t.k.tgtRan = running, true
		case t.k.tgt == dead && !t.k.tgtRan:
			return ErrGone
		case t.k.tgt == dead:
			return errors.New("the job has run and is gone")
		}
		return nil
	})
}

func (t targetJob) Drop(context.Context) error {
	return t.do(func() error { t.k.tgt = dead; return nil })
}

func (t targetJob) End(ctx context.Context) error { return t.Drop(ctx) }

// cluster is the two agents and the connection between them.
type cluster struct {
	t        *testing.T
	k        *kernel
	src, tgt *agent
	move     MoveID
	reboots  bool // a crash takes the node with it
	work     sync.WaitGroup
	ctx      context.Context
	mu       sync.Mutex // one restart at a time
}

func newCluster(t *testing.T, ctx context.Context) *cluster {
	c := &cluster{t: t, ctx: ctx, k: &kernel{src: running}, move: NewMoveID(),
		src: &agent{dir: testenv.MemoryDir(t), boot: "boot-s", limit: -1}, tgt: &agent{dir: testenv.MemoryDir(t), boot: "boot-t", limit: -1}}
	c.src.open(t)
	c.tgt.open(t)
	c.tgt.half = c.tgt.engine().NewTarget(c.record("a", "boot-t"), targetJob{c.tgt, c.k})
	t.Cleanup(func() {
		if err := errors.Join(c.src.j.Close(), c.tgt.j.Close()); err != nil {
			t.Error(err)
		}
	})
	return c
}

func (c *cluster) record(peer, boot string) Record {
	return Record{Move: c.move, Kind: KindMove, Job: "jabcdefgh27", Peer: peer, PeerAddr: peer + ":7070", Epoch: 1, BootID: boot}
}

func (c *cluster) run(ctx context.Context, p Peer) (Outcome, error) {
	return c.src.engine().RunSource(ctx, c.record("b", "boot-s"), sourceJob{c.src, c.k}, p)
}

func (c *cluster) restartTarget() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.tgt.crashed() {
		return
	}
	if c.reboots {
		c.tgt.boot = "boot-t2"
		c.k.change(func() {
			if c.k.tgt != none {
				c.k.tgt = dead
			}
		})
	}
	c.tgt.open(c.t)
	rec, err := c.tgt.j.Get(c.move)
	if errors.Is(err, ErrUnknownMove) {
		c.tgt.half = c.tgt.engine().NewTarget(c.record("a", c.tgt.boot), targetJob{c.tgt, c.k})
		return
	}
	if err != nil {
		c.t.Error(err)
		return
	}
	half := c.tgt.engine().OpenTarget(rec, targetJob{c.tgt, c.k})
	c.tgt.half = half
	c.work.Go(func() {
		if err := half.Recover(c.ctx, asker{c}); err != nil && !errors.Is(err, ErrInDoubt) {
			c.t.Errorf("target recovery: %v", err)
		}
	})
}

func (c *cluster) restartSource() {
	c.mu.Lock()
	if c.reboots {
		c.src.boot = "boot-s2"
		c.k.change(func() { c.k.src = dead })
	}
	c.src.open(c.t)
	c.mu.Unlock()
}

func (c *cluster) recoverSource(ctx context.Context) (Outcome, error) {
	rec, err := c.src.j.Get(c.move)
	if err != nil {
		return OutcomeRefused, err
	}
	return c.src.engine().RecoverSource(ctx, rec, sourceJob{c.src, c.k}, link{c})
}

func (c *cluster) states() (src, tgt State) {
	src, tgt = StateNew, c.tgt.half.State()
	if rec, err := c.src.j.Get(c.move); err == nil {
		src = rec.State
	}
	return src, tgt
}

func (c *cluster) wantCopies(src, tgt copyState) {
	c.t.Helper()
	c.k.mu.Lock()
	defer c.k.mu.Unlock()
	if len(c.k.faults) > 0 {
		c.t.Errorf("faults: %v", c.k.faults)
	}
	if c.k.src != src || c.k.tgt != tgt {
		c.t.Errorf("copies are %s and %s, want %s and %s", name(c.k.src), name(c.k.tgt), name(src), name(tgt))
	}
}

func (c *cluster) wantStates(src, tgt State) {
	c.t.Helper()
	if s, t := c.states(); s != src || t != tgt {
		c.t.Errorf("states are %s and %s, want %s and %s", s, t, src, tgt)
	}
}

func name(s copyState) string {
	return [...]string{"none", "running", "frozen", "parked", "dead"}[s]
}

func (c *cluster) begin() {
	c.t.Helper()
	if err := c.tgt.half.Begin(c.ctx); err != nil {
		c.t.Fatal(fmt.Errorf("begin: %w", err))
	}
}
