package scan

import (
	"errors"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/migrate-hpc/migrate/stream"
)

// reused are tasks that were listed with the numbers of the ones that live, and have ended.
func reused(tasks []Task) (dead []Task) {
	for _, t := range tasks {
		t.Began--
		dead = append(dead, t)
	}
	return dead
}

func TestMemoryOfWhoeverHasTheNumberOfATaskNowIsNotSent(t *testing.T) {
	p, s := launch(t, "plain"), newScene(t, 2)
	round := s.warm(t, reused(p.members(t)))
	if round.Payload != 0 || round.Dirty != 0 {
		t.Errorf("sent while the job runs: %+v", round)
	}
	tasks := p.stop(t)
	dead, regions := reused(tasks), lazyRegions(t, tasks)
	if round, err := s.Scan(t.Context(), dead, s.sinks); err != nil || round.Payload != 0 {
		t.Errorf("sent while it is frozen: %+v, %v", round, err)
	}
	var unread *ReadError
	if round, err := s.Rest(t.Context(), dead, regions, s.sinks); !errors.As(err, &unread) || !errors.Is(err, unix.ESRCH) || round.Payload != 0 {
		t.Errorf("sent of the rest: %+v, %v", round, err)
	}
	puller := NewPuller(dead, regions)
	defer puller.Close()
	first := regions[dead[0].VPID][0]
	if _, err := puller.Read(stream.Place{VPID: dead[0].VPID, Addr: first.Addr}, 1); !errors.Is(err, ErrEnded) {
		t.Errorf("pulled: %v", err)
	}
	if err := clearBits(dead[0]); !errors.Is(err, unix.ESRCH) {
		t.Errorf("its bits were cleared: %v", err)
	}
}

// A task may end, and its number go to another one, at any moment while it is read.
func TestATaskThatEndsWhileItIsReadIsLost(t *testing.T) {
	p := launch(t, "plain")
	tasks := p.stop(t)
	regions := lazyRegions(t, tasks)
	first := regions[tasks[0].VPID][0]
	var r reader
	defer r.close()
	buf, lost := make([]byte, stream.PageSize), make([]bool, 1)
	if err := r.read(tasks[0], []pageRange{{first.Addr, 1}}, buf, lost); err != nil || lost[0] {
		t.Fatal(err)
	}
	r.process.Close()
	ended := launch(t, "plain")
	here := ended.members(t)[0]
	other := reader{}
	if err := other.openProcess(here); err != nil {
		t.Fatal(err)
	}
	if err := unix.Kill(here.PID, unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(time.Minute); other.process.Alive() == nil; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("a killed process does not end")
		}
	}
	// The number leads to a process that can be read, what is held has ended.
	r.process = other.process
	if err := r.read(tasks[0], []pageRange{{first.Addr, 1}}, buf, lost); !errors.Is(err, unix.ESRCH) || !lost[0] {
		t.Errorf("%v, lost: %v", err, lost[0])
	}
}
