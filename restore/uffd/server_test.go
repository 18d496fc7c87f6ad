package uffd

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/migrate-hpc/migrate/criu/image"
	"github.com/migrate-hpc/migrate/restore/pagestore"
	"github.com/migrate-hpc/migrate/stream"
)

// running starts one registered task that CRIU has let go.
func running(t *testing.T, pages int) (*scene, *remote) {
	t.Helper()
	s := newScene(t)
	r := s.task(7, pages)
	s.serve(2)
	r.do("register 0 %d", pages)
	r.do("send 7")
	return s, r
}

func TestAllPagesArriveUntouched(t *testing.T) {
	s, r := running(t, 5000)
	s.finish()
	s.wantDone()
	r.do("right 0 5000")
	if s.stats.Tasks != 1 || s.stats.Filled != 5000*stream.PageSize {
		t.Fatalf("stats %+v", s.stats)
	}
}

func TestFaultsAreServedBeforeTheRestoreIsFinished(t *testing.T) {
	s := newScene(t)
	r := startTask(t, s.conn, 300)
	s.put(r, 7, 0, 100)
	if err := s.store.PutZero(7, r.page(100), 100); err != nil {
		t.Fatal(err)
	}
	s.regions[7] = append(s.regions[7], image.Region{Addr: r.page(100), Pages: 100, Lazy: true})
	s.serve(1)
	r.do("register 0 300")
	r.do("send 7")
	r.do("right 0 100")
	r.do("zero 100 200")
	if filled, total := s.server.Progress(); filled != 100*stream.PageSize || total != filled {
		t.Fatalf("Progress() = %d %d", filled, total)
	}
	s.finish()
	s.wantDone()
	// A signal, as Go preempts with, makes a task fault again for a page that is on its way.
	if s.stats.ZeroFaults < 200 || s.stats.Faults > 200 {
		t.Fatalf("stats %+v", s.stats)
	}
}

func TestFillBringsPagesWhileTheJobIsParked(t *testing.T) {
	s, r := running(t, 3000)
	r.do("right 5 1") // the server has the task now
	s.fill()
	s.reach(3000 * stream.PageSize)
	select {
	case err := <-s.result:
		t.Fatalf("Serve ended before CRIU had finished: %v", err)
	default:
	}
	s.finish()
	s.wantDone()
	r.do("right 0 3000")
}

func TestThreadsSeeTheirPagesWhileTheFillRuns(t *testing.T) {
	s, r := running(t, 20000)
	r.begin("touch 4")
	s.finish()
	s.wantDone()
	r.wantOK()
}

func TestDiscardedPagesStayDiscarded(t *testing.T) {
	s, r := running(t, 4000)
	r.do("right 1000 1")
	r.do("dontneed 900 2000")
	r.do("zero 950 10")
	s.finish()
	s.wantDone()
	r.do("right 0 900")
	r.do("zero 900 2000")
	r.do("right 2900 1100")
}

func TestUnmappedPagesAreForgotten(t *testing.T) {
	s, r := running(t, 4000)
	r.do("unmap 1000 2000")
	s.finish()
	s.wantDone()
	r.do("right 0 1000")
	r.do("right 3000 1000")
}

func TestPagesFollowTheirMapping(t *testing.T) {
	s, r := running(t, 4000)
	r.do("right 100 1")
	r.do("move 50 1000 2500") // over pages that are lost thereby
	r.do("moved 60 5 2510")
	s.finish()
	s.wantDone()
	r.do("right 0 50")
	r.do("moved 50 1000 2500")
	r.do("right 1050 1450")
	r.do("right 3500 500")
}

func TestChunksThatSpanMappingsArrive(t *testing.T) {
	s, r := running(t, 500)
	r.do("readonly 33 3")
	r.do("readonly 130 71")
	s.finish()
	s.wantDone()
	r.do("right 0 500")
}

func TestForkedChildSeesAllPages(t *testing.T) {
	s, r := running(t, 3000)
	r.do("right 17 3")
	r.do("dontneed 2000 1000")
	r.do("fork 0 2000 2000 1000")
	s.finish()
	r.do("fork 0 2000 2000 1000")
	s.wantDone()
	r.do("right 0 2000")
	r.do("fork 0 2000 2000 1000")
	if s.stats.Forks < 1 {
		t.Fatalf("stats %+v", s.stats)
	}
}

func TestChildDoesNotGetWhatForkWipes(t *testing.T) {
	s, r := running(t, 300)
	r.do("wipeonfork 100 100")
	r.do("fork 0 100 100 100")
	r.do("fork 200 100 100 100")
	s.finish()
	s.wantDone()
	r.do("right 0 300")
}

func TestChildDoesNotGetWhatForkLeavesOut(t *testing.T) {
	s, r := running(t, 3000)
	r.do("dontfork 100 2000")
	r.begin("fork 2100 900 0 0")
	s.finish()
	r.wantOK()
	s.wantDone()
	r.do("right 0 3000")
}

func TestEndOfATaskEndsItsPages(t *testing.T) {
	s := newScene(t)
	dying, other := s.task(7, 3000), s.task(8, 3000)
	s.serve(2)
	for i, r := range []*remote{dying, other} {
		r.do("register 0 3000")
		r.do("send %d", 7+i)
	}
	dying.do("right 1 1")
	dying.kill()
	s.finish()
	s.wantDone()
	other.do("right 0 3000")
}

func TestZombiesAreCountedAndHaveNoMemory(t *testing.T) {
	s, _ := running(t, 10)
	s.say(-9)
	s.finish()
	s.wantDone()
	if s.stats.Zombies != 1 || s.stats.Tasks != 1 {
		t.Fatalf("stats %+v", s.stats)
	}
}

func TestPagesBeyondThePagemapsAreNeverServed(t *testing.T) {
	s := newScene(t)
	r := s.task(7, 300)
	s.regions[7] = []image.Region{{Addr: r.page(0), Pages: 100, Lazy: true}, {Addr: r.page(100), Pages: 50, Present: true}}
	s.serve(1)
	r.do("register 0 300")
	r.do("send 7")
	r.do("zero 120 5")
	s.finish()
	s.wantDone()
	r.do("right 0 100")
	r.do("zero 100 200")
}

func TestMissingPageIsRefusedBeforeAnythingStarts(t *testing.T) {
	s := newScene(t)
	s.regions[7] = []image.Region{{Addr: 1 << 20, Pages: 1, Lazy: true}}
	s.serve(1)
	if err := s.wait(); !errors.Is(err, pagestore.ErrMissing) {
		t.Fatalf("Serve: %v, want ErrMissing", err)
	}
}

// failed checks that a task waits for its pages, and does not read zeros, after
// Serve has failed.
func failed(t *testing.T, s *scene, r *remote, page int) {
	t.Helper()
	r.begin("zero %d 1", page)
	answer := make(chan string, 1)
	go func() { answer <- r.line() }()
	select {
	case got := <-answer:
		t.Fatalf("task went on after the failure: %s", got)
	case <-time.After(100 * time.Millisecond):
	}
	r.kill()
	<-answer
	if err := s.server.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestTaskHangsRatherThanReadZerosAfterCRIUBreaksOff(t *testing.T) {
	s, r := running(t, 100)
	r.do("right 0 1")
	unix.Shutdown(int(s.conn.Fd()), unix.SHUT_RDWR)
	if err := s.wait(); err == nil {
		t.Fatal("Serve: no error")
	}
	failed(t, s, r, 50)
}

func TestTaskHangsRatherThanReadZerosAfterCancel(t *testing.T) {
	s, r := running(t, 100)
	r.do("right 0 1")
	s.cancel()
	if err := s.wait(); !errors.Is(err, context.Canceled) {
		t.Fatalf("Serve: %v", err)
	}
	failed(t, s, r, 50)
}

func TestPageThatCannotBePlacedIsAnError(t *testing.T) {
	s := newScene(t)
	r := s.task(7, 200)
	s.serve(2)
	r.do("register 0 150")
	r.do("send 7")
	s.finish()
	if err := s.wait(); !errors.Is(err, errUnregistered) {
		t.Fatalf("Serve: %v, want errUnregistered", err)
	}
}

func TestTaskThatCRIUNeverRestoresIsAnError(t *testing.T) {
	s := newScene(t)
	mustPut(t, s.store, 99, 1<<20, fill(1, 0))
	s.regions[99] = []image.Region{{Addr: 1 << 20, Pages: 1, Lazy: true}}
	s.serve(1)
	s.finish()
	if err := s.wait(); err == nil {
		t.Fatal("Serve: no error")
	}
}

func TestStrangeMessagesAreRefused(t *testing.T) {
	for name, send := range map[string]func(*scene){
		"pid 0":             func(s *scene) { s.say(0) },
		"pid too large":     func(s *scene) { s.say(1 << 23) },
		"pid cut short":     func(s *scene) { s.conn.Write([]byte{1}); s.conn.Close() },
		"no descriptor":     func(s *scene) { s.say(5); s.say(5) },
		"closed after pid":  func(s *scene) { s.say(5); s.conn.Close() },
		"nothing at all":    func(s *scene) { s.conn.Close() },
		"no userfaultfd":    func(s *scene) { s.say(5); sendFile(s, 1) },
		"two descriptors":   func(s *scene) { s.say(5); sendFile(s, 2) },
		"descriptor as pid": func(s *scene) { sendFile(s, 1) },
	} {
		t.Run(name, func(t *testing.T) {
			s := newScene(t)
			s.serve(1)
			send(s)
			if err := s.wait(); err == nil {
				t.Fatal("Serve: no error")
			}
		})
	}
}

func sendFile(s *scene, count int) {
	fds := make([]int, count)
	for i := range fds {
		fds[i] = int(os.Stdin.Fd())
	}
	if err := unix.Sendmsg(int(s.conn.Fd()), make([]byte, 1), unix.UnixRights(fds...), nil, 0); err != nil {
		s.t.Fatal(err)
	}
}

func TestThreadsThatChangeTheirMemoryKeepItRight(t *testing.T) {
	for seed := range 3 {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			s := newScene(t)
			var tasks []*remote
			for i := range 2 {
				tasks = append(tasks, s.task(stream.VPID(7+i), 24000))
			}
			s.serve(2)
			for i, r := range tasks {
				r.do("register 0 24000")
				r.do("send %d", 7+i)
				r.begin("churn 3 6000 %d", seed)
			}
			s.reach(int64(1+seed*12000) * stream.PageSize) // from here on the fill races with the threads
			s.finish()
			s.wantDone()
			for _, r := range tasks {
				r.wantOK()
			}
			t.Logf("%+v", s.stats)
		})
	}
}

func TestListenTakesALongPath(t *testing.T) {
	dir := t.TempDir() + "/" + string(bytes.Repeat([]byte("d"), 150))
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	for range 2 { // a socket left over is replaced
		s, err := Listen(dir)
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
	}
}

// BenchmarkFill also reports the processor time per GiB. On a busy machine that says more than the
// speed.
func BenchmarkFill(b *testing.B) {
	for _, workers := range []int{1, 2} {
		b.Run(fmt.Sprintf("workers=%d", workers), func(b *testing.B) {
			const pages = 1 << 18
			var cpu time.Duration
			b.SetBytes(pages * stream.PageSize)
			b.StopTimer()
			for range b.N {
				s := newScene(b)
				r := s.task(7, pages)
				s.serve(workers)
				r.do("register 0 %d", pages)
				r.do("send 7")
				before := cpuTime()
				b.StartTimer()
				s.finish()
				if err := s.wait(); err != nil {
					b.Fatal(err)
				}
				b.StopTimer()
				cpu += cpuTime() - before
				r.kill()
				os.RemoveAll(s.store.Dir)
			}
			b.ReportMetric(cpu.Seconds()/float64(b.N), "cpu-s/GiB")
		})
	}
}

func cpuTime() time.Duration {
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
