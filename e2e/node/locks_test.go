package node

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// rival wants a lock that a job has. It sees to it that the job does not run while it has it.
type rival struct {
	t    *testing.T
	dir  string
	file *os.File
	want unix.Flock_t // Type 0: flock(2)
}

func newRival(t *testing.T, dir, name string, want unix.Flock_t) *rival {
	f, err := os.OpenFile(filepath.Join(dir, name), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	return &rival{t: t, dir: dir, file: f, want: want}
}

func (r *rival) try() bool {
	var err error
	if r.want.Type == 0 {
		err = unix.Flock(int(r.file.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	} else {
		err = unix.FcntlFlock(r.file.Fd(), unix.F_OFD_SETLK, &r.want)
	}
	if err != nil && !errors.Is(err, unix.EAGAIN) && !errors.Is(err, unix.EACCES) {
		r.t.Errorf("%s: %v", r.file.Name(), err)
	}
	return err == nil
}

func (r *rival) drop() {
	not := r.want
	not.Type = unix.F_UNLCK
	if err := errors.Join(unix.Flock(int(r.file.Fd()), unix.LOCK_UN), unix.FcntlFlock(r.file.Fd(), unix.F_OFD_SETLK, &not)); err != nil {
		r.t.Error(err)
	}
}

func (r *rival) counter() uint64 {
	data, err := os.ReadFile(filepath.Join(r.dir, "counter"))
	if err != nil || len(data) != 8 {
		r.t.Errorf("the job's counter: %d bytes, %v", len(data), err)
		return 0
	}
	return binary.LittleEndian.Uint64(data)
}

// counts waits until the job has counted on.
func (r *rival) counts(from uint64) {
	r.t.Helper()
	eventually(r.t, limit, func() error {
		if is := r.counter(); is <= from {
			return fmt.Errorf("the job has counted to %d", is)
		}
		return nil
	})
}

func (j *job) hasLocks(n *node) {
	j.t.Helper()
	eventually(j.t, limit, func() error {
		if out := j.logs(n); !strings.Contains(out, "HELPER HAS LOCKS") {
			return fmt.Errorf("the job has no locks: %s %s", clip(out), j.stderr(n))
		}
		return nil
	})
}

// fight asks for the lock all the time.
func (r *rival) fight(stop <-chan struct{}) {
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for turn := 0; ; turn++ {
		select {
		case <-stop:
			return
		case <-tick.C:
		}
		if turn%4 == 0 || !r.try() { // leaves the job a chance
			continue
		}
		was := r.counter()
		for range 5 {
			<-tick.C
		}
		if is := r.counter(); is != was {
			r.t.Errorf("%s: the job ran, from %d to %d, while another process had its lock", r.file.Name(), was, is)
		}
		r.drop()
	}
}

func TestExclusiveLocksOnFilesThatBothNodesShareMoveAlong(t *testing.T) {
	c := newCluster(t, 2)
	here, there := c.two()
	dir := filepath.Join(c.dir, "locked")
	c.must(os.MkdirAll(dir, 0o777))
	j := here.launch("--bind", dir+":/mnt", "--", shared.helper, "locks", "/mnt")
	j.hasLocks(here)
	rivals := []*rival{
		newRival(t, dir, "flock", unix.Flock_t{}),
		newRival(t, dir, "open", unix.Flock_t{Type: unix.F_WRLCK, Whence: io.SeekStart, Start: 10, Len: 10}),
		newRival(t, dir, "process", unix.Flock_t{Type: unix.F_WRLCK, Whence: io.SeekStart, Start: 100, Len: 1}),
		newRival(t, dir, "child", unix.Flock_t{Type: unix.F_WRLCK, Whence: io.SeekStart}),
	}
	goesOn := func() {
		t.Helper()
		was := rivals[0].counter()
		rivals[0].counts(was)
		for _, r := range rivals {
			if r.try() {
				t.Errorf("the job runs without its lock on %s", r.file.Name())
				r.drop()
			}
		}
	}
	goesOn()
	for _, fighting := range []bool{false, true, true} {
		stop, fights := make(chan struct{}), sync.WaitGroup{}
		for _, r := range rivals {
			if fighting {
				fights.Go(func() { r.fight(stop) })
			}
		}
		j.move(here, there)
		here, there = there, here
		was := rivals[0].counter()
		rivals[0].counts(was)
		close(stop)
		fights.Wait()
		goesOn()
	}
	saved := filepath.Join(c.dir, "saved")
	here.migrate("checkpoint", j.id, saved).want(t, 0)
	if !rivals[2].try() {
		t.Fatal("a job that was saved has a lock")
	}
	there.migrate("restore", "-d", saved).want(t, 1).says(t, "lock", "lslocks")
	rivals[2].drop()
	there.migrate("restore", "-d", saved).want(t, 0)
	goesOn()
}

func TestAMoveThatIsAbortedLeavesTheLocks(t *testing.T) {
	c := newCluster(t, 2, withFaults)
	a, b := c.two()
	dir := filepath.Join(c.dir, "locked")
	c.must(os.MkdirAll(dir, 0o777))
	j := a.launch("--bind", dir+":/mnt", "--", shared.helper, "locks", "/mnt")
	j.hasLocks(a)
	r := newRival(t, dir, "process", unix.Flock_t{Type: unix.F_WRLCK, Whence: io.SeekStart, Start: 100, Len: 1})
	stop, fight := make(chan struct{}), sync.WaitGroup{}
	won := false
	fight.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
				won = won || r.try()
			}
		}
	})
	a.plan("dump.ended 1 eio")
	a.migrate("move", j.id, b.name).want(t, 4)
	close(stop)
	fight.Wait()
	if won {
		t.Error("the lock was free for a moment")
	}
	was := r.counter()
	r.counts(was)
	if out := a.migrate("ps").want(t, 0).out; !strings.Contains(out, "running") {
		t.Errorf("ps says %s", out)
	}
}
