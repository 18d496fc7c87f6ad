package uffd

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/migrate-hpc/migrate/criu/image"
	"github.com/migrate-hpc/migrate/restore/pagestore"
	"github.com/migrate-hpc/migrate/stream"
)

func TestAThreadWaitsForAnAbsentPageAndGetsIt(t *testing.T) {
	s, r := pulling(t, 300)
	s.finish()
	r.begin("right 40 10")
	answer := r.waits()
	s.deliver(r, 7, 100, 200)
	s.deliver(r, 7, 35, 30)
	wantAnswer(t, answer)
	if n := s.server.Absent(); n != 70*stream.PageSize {
		t.Fatalf("%d bytes are absent, want those of 70 pages", n)
	}
	s.deliverZero(r, 7, 65, 35)
	s.deliver(r, 7, 0, 35)
	s.wantDone()
	r.do("right 0 65")
	r.do("zero 65 35")
	r.do("right 100 200")
}

func TestAThreadThatWaitsForAZeroPageGoesOn(t *testing.T) {
	s, r := pulling(t, 10)
	r.begin("zero 3 1")
	answer := r.waits()
	s.deliverZero(r, 7, 0, 10)
	wantAnswer(t, answer)
	s.finish()
	s.wantDone()
}

func TestPagesThatArriveBeforeTheirTaskAreThere(t *testing.T) {
	s := newScene(t)
	r := s.lacking(7, 200)
	s.await()
	s.deliver(r, 7, 0, 50)
	s.deliverZero(r, 7, 50, 50)
	r.do("register 0 200")
	r.do("send 7")
	r.do("right 0 50")
	r.do("zero 50 50")
	s.deliver(r, 7, 100, 100)
	s.finish()
	s.wantDone()
	r.do("right 100 100")
}

func TestAbsentPagesFollowTheirMapping(t *testing.T) {
	s, r := pulling(t, 400)
	s.finish()
	r.do("move 50 100 250") // over pages that are lost thereby
	s.deliver(r, 7, 0, 80)
	r.begin("moved 100 10 300")
	answer := r.waits()
	s.deliver(r, 7, 80, 250)
	wantAnswer(t, answer)
	s.deliver(r, 7, 330, 70)
	s.wantDone()
	r.do("right 0 50")
	r.do("moved 50 100 250")
	r.do("right 150 100")
	r.do("right 350 50")
}

func TestDiscardedAbsentPagesStayDiscarded(t *testing.T) {
	s, r := pulling(t, 400)
	s.finish()
	r.do("dontneed 100 100")
	r.do("zero 120 5")
	s.deliver(r, 7, 0, 250)
	s.deliver(r, 7, 250, 150)
	s.wantDone()
	r.do("right 0 100")
	r.do("zero 100 100")
	r.do("right 200 200")
}

func TestAbsentPagesThatAreUnmappedNeedNotCome(t *testing.T) {
	s, r := pulling(t, 400)
	s.finish()
	s.deliver(r, 7, 0, 100)
	r.do("unmap 100 300")
	s.wantDone()
	r.do("right 0 100")
}

func TestParentAndChildGetThePagesThatBothLack(t *testing.T) {
	s, r := pulling(t, 500)
	s.finish()
	s.deliver(r, 7, 0, 100)
	r.begin("fork 0 300 300 200")
	answer := r.waits()
	s.deliver(r, 7, 100, 200)
	s.deliverZero(r, 7, 300, 200)
	wantAnswer(t, answer)
	s.wantDone()
	r.do("right 0 300")
	r.do("zero 300 200")
	if s.stats.Forks != 1 {
		t.Fatalf("stats %+v", s.stats)
	}
}

func TestOnlyTheFirstDeliveryOfAPageCounts(t *testing.T) {
	s, r := pulling(t, 100)
	s.finish()
	s.deliver(r, 7, 0, 60)
	r.do("right 0 60")
	s.deliverZero(r, 7, 0, 60)
	if err := s.server.Deliver([]stream.Run{{VPID: 7, Addr: r.page(0), Pages: 60, Data: fill(60, 99)}}); err != nil {
		t.Fatal(err)
	}
	s.deliver(r, 7, 40, 60)
	s.wantDone()
	r.do("right 0 100")
	s.deliver(r, 7, 0, 100) // after the end
}

func TestADeathEndsWhatIsWanted(t *testing.T) {
	s, r := pulling(t, 100)
	s.finish()
	ended := make(chan error, 1)
	first := make(chan []PageRequest, 1)
	go func() {
		ended <- s.server.Requests(context.Background(), func(w []PageRequest) error {
			select {
			case first <- w:
			default:
			}
			return nil
		})
	}()
	<-first
	r.kill()
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	if err := s.wait(); err != nil {
		t.Fatal(err)
	}
}

// answer plays the source. It brings what is requested, now and then a page twice, and breaks off
// after so many requests.
func (s *scene) answer(tasks map[stream.VPID]*remote, rnd *rand.Rand, most int) error {
	errCut := errors.New("cut")
	err := s.server.Requests(context.Background(), func(wants []PageRequest) error {
		for _, w := range wants {
			if most--; most == 0 {
				return errCut
			}
			r := tasks[w.VPID]
			page := int((w.Addr - r.base) / stream.PageSize)
			for n := int(w.Pages); n > 0; n, page = n-8, page+8 { // small, so that much happens meanwhile
				s.deliver(r, w.VPID, page, min(n, 8))
			}
			if rnd.IntN(4) == 0 {
				s.deliver(r, w.VPID, page-8, 1)
			}
		}
		return nil
	})
	if errors.Is(err, errCut) {
		return s.answer(tasks, rnd, 2*most+100)
	}
	return err
}

func TestWhatThreadsWaitForIsAskedForFirst(t *testing.T) {
	s, r := pulling(t, 20000)
	r.begin("right 15000 1")
	answer := r.waits()
	s.finish()
	var got []PageRequest
	stop := errors.New("enough")
	err := s.server.Requests(context.Background(), func(w []PageRequest) error {
		got = w
		return stop
	})
	if !errors.Is(err, stop) || !got[0].Urgent || got[0].Addr > r.page(15000) || got[0].Addr+uint64(got[0].Pages)*stream.PageSize <= r.page(15000) {
		t.Fatalf("asked first for %+v (%v), a thread waits for %#x", got, err, r.page(15000))
	}
	if err := s.answer(map[stream.VPID]*remote{7: r}, rand.New(rand.NewPCG(1, 1)), 1<<30); err != nil {
		t.Fatal(err)
	}
	wantAnswer(t, answer)
	s.wantDone()
	r.do("right 0 20000")
}

func TestNoMoreThanTheWindowIsAskedForAtOnce(t *testing.T) {
	s, _ := pulling(t, 3*RequestWindow/stream.PageSize)
	s.finish()
	var pages int64
	ctx, cancel := context.WithTimeout(context.Background(), 300*time.Millisecond)
	defer cancel()
	err := s.server.Requests(ctx, func(wants []PageRequest) error {
		for _, w := range wants {
			pages += w.Pages
		}
		return nil
	})
	if !errors.Is(err, context.DeadlineExceeded) || pages*stream.PageSize < RequestWindow || pages*stream.PageSize > RequestWindow+maxRequest {
		t.Fatalf("asked for %d pages: %v", pages, err)
	}
}

func TestASecondAskerTakesOver(t *testing.T) {
	s, r := pulling(t, 1000)
	s.finish()
	first, started := make(chan error, 1), make(chan struct{}, 100)
	go func() {
		first <- s.server.Requests(context.Background(), func([]PageRequest) error {
			started <- struct{}{}
			return nil
		})
	}()
	<-started
	if err := s.answer(map[stream.VPID]*remote{7: r}, rand.New(rand.NewPCG(1, 1)), 1<<30); err != nil {
		t.Fatal(err)
	}
	if err := <-first; !errors.Is(err, ErrSuperseded) {
		t.Fatalf("the first: %v", err)
	}
	s.wantDone()
	r.do("right 0 1000")
}

func TestThreadsThatChangeTheirMemoryWhileItIsPulledKeepItRight(t *testing.T) {
	for seed := range 3 {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			s := newScene(t)
			tasks := map[stream.VPID]*remote{7: s.lacking(7, 12000), 8: s.lacking(8, 12000)}
			s.await()
			for vpid, r := range tasks {
				r.do("register 0 12000")
				r.do("send %d", vpid)
				r.begin("churn 3 3000 %d", seed)
			}
			s.finish()
			if err := s.answer(tasks, rand.New(rand.NewPCG(uint64(seed), 1)), 20); err != nil {
				t.Error(err)
			}
			s.wantDone()
			for _, r := range tasks {
				r.wantOK()
			}
			t.Logf("%+v", s.stats)
		})
	}
}

func TestNothingIsServedBeforeItIsSettled(t *testing.T) {
	s := newScene(t)
	r := s.task(7, 300)
	s.server.AllowIncomplete()
	s.serve(2)
	r.do("register 0 300")
	r.do("send 7")
	s.fill()
	mustPut(t, s.store, 7, r.page(10), fill(5, 77)) // what the warm-up brought is old
	r.begin("right 12 1")
	answer := r.waits()
	var each sync.WaitGroup
	for i := range 3 {
		each.Go(func() {
			run := stream.Run{VPID: 7, Addr: r.page(100 * i), Pages: 100, Data: fill(100, uint64(100*i)<<16)}
			if err := s.server.Put([]stream.Run{run, {VPID: 7, Addr: r.page(1000), Pages: 1, Zero: true}}); err != nil {
				t.Error(err)
			}
		})
	}
	each.Wait()
	if err := s.server.EndPush(false); err != nil {
		t.Fatal(err)
	}
	wantAnswer(t, answer)
	if err := s.server.Put([]stream.Run{{VPID: 7, Addr: r.page(0), Pages: 1, Zero: true}}); err == nil {
		t.Error("a page that may be in use was replaced")
	}
	s.finish()
	s.wantDone()
	r.do("right 0 300")
}

func TestAStoreThatLacksAPageIsSettledOnlyIfItCanBePulled(t *testing.T) {
	s := newScene(t)
	r := s.lacking(7, 300)
	s.server.AllowIncomplete()
	s.serve(2)
	r.do("register 0 300")
	r.do("send 7")
	if err := s.server.Put([]stream.Run{{VPID: 7, Addr: r.page(0), Pages: 299, Data: fill(299, 0)}, {VPID: 7, Addr: r.page(20), Pages: 2, Drop: true}}); err != nil {
		t.Fatal(err)
	}
	if err := s.server.EndPush(false); !errors.Is(err, pagestore.ErrMissing) {
		t.Fatalf("EndPush: %v", err)
	}
	if err := s.server.EndPush(true); err != nil {
		t.Fatal(err)
	}
	if n := s.server.Absent(); n != 3*stream.PageSize {
		t.Fatalf("%d bytes are absent, want those of 3 pages", n)
	}
	r.do("right 0 20")
	s.deliver(r, 7, 0, 300)
	s.finish()
	s.wantDone()
	r.do("right 0 300")
}

func TestWhatNobodyAskedForIsRefused(t *testing.T) {
	s, r := pulling(t, 10)
	for _, run := range []stream.Run{{Drop: true}, {Copy: true, From: stream.Place{VPID: 7, Addr: r.page(5)}}} {
		run.VPID, run.Addr, run.Pages = 7, r.page(0), 1
		if err := s.server.Deliver([]stream.Run{run}); err == nil {
			t.Errorf("%+v was taken", run)
		}
	}
	s.deliver(r, 7, 0, 10)
	s.finish()
	s.wantDone()
}

func TestATaskThatLacksEverythingAndIsNeverRestoredIsAnError(t *testing.T) {
	s := newScene(t)
	s.regions[99] = []image.Region{{Addr: 1 << 20, Pages: 1, Lazy: true}}
	s.server.AllowIncomplete()
	s.serve(1)
	s.finish()
	if err := s.wait(); err == nil {
		t.Fatal("Serve: no error")
	}
}

func TestATaskWhosePagesAreLostIsNotLetGo(t *testing.T) {
	s, r := pulling(t, 100)
	s.finish()
	s.deliver(r, 7, 0, 50)
	r.do("right 0 50")
	ended, asked := make(chan error, 1), make(chan struct{}, 10)
	go func() {
		ended <- s.server.Requests(context.Background(), func([]PageRequest) error {
			asked <- struct{}{}
			return nil
		})
	}()
	<-asked
	why := errors.New("the source is gone")
	s.server.MarkLost(why)
	if err := s.wait(); !errors.Is(err, why) {
		t.Fatalf("Serve: %v", err)
	}
	if err := <-ended; !errors.Is(err, why) {
		t.Errorf("Requests: %v", err)
	}
	failed(t, s, r, 50)
}

func TestAfterAFailureNothingIsTaken(t *testing.T) {
	s, r := pulling(t, 100)
	s.deliver(r, 7, 0, 1)
	r.do("right 0 1") // so the task has arrived: one that is still in the socket goes with it
	s.cancel()
	if err := s.wait(); err == nil {
		t.Fatal("Serve: no error")
	}
	run := []stream.Run{{VPID: 7, Addr: r.page(0), Pages: 1, Zero: true}}
	if s.server.Put(run) == nil || s.server.Deliver(run) == nil || s.server.EndPush(false) == nil {
		t.Error("a server that has failed takes pages")
	}
	failed(t, s, r, 50)
}
