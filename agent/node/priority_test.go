package node

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/migrate-hpc/migrate/osthread"
)

func TestPriorityIsLowUnlessAJobIsFrozen(t *testing.T) {
	var levels []int
	p := &Priority{used: func() osthread.Usage { return osthread.Usage{} }, set: func(nice int) error {
		levels = append(levels, nice)
		return nil
	}}
	first := p.WarmUp()
	second := p.WarmUp()
	first()
	first() // a second time is nothing
	frozen := p.Urgent()
	second()
	third := p.WarmUp()
	frozen()
	third()
	if want := []int{osthread.Polite, 0, osthread.Polite, 0}; !slices.Equal(levels, want) {
		t.Errorf("levels %v, want %v", levels, want)
	}
}

// However long its threads wait together, more than the processors it cannot want.
func TestPriorityYieldsWhenTheProcessorsAreBusy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var levels []int
		used := osthread.Usage{Waited: time.Hour}
		p := &Priority{used: func() osthread.Usage { return used }, set: func(nice int) error {
			levels = append(levels, nice)
			return nil
		}}
		done := p.WarmUp()
		if p.Yields() {
			t.Error("it takes turns before it has waited")
		}
		//house:allow time.Sleep: the bubble's clock
		time.Sleep(sampleEvery + sampleEvery/2)
		synctest.Wait()
		if !p.Yields() || levels[len(levels)-1] != 0 {
			t.Errorf("it had no processor, and the levels are %v", levels)
		}
		p.mu.Lock()
		used = osthread.Usage{Ran: time.Second}
		p.mu.Unlock()
		//house:allow time.Sleep: the bubble's clock
		time.Sleep(sampleEvery)
		synctest.Wait()
		if p.Yields() || levels[len(levels)-1] != osthread.Polite {
			t.Errorf("it has caught up, and the levels are %v", levels)
		}
		done()
		if levels[len(levels)-1] != 0 {
			t.Errorf("levels %v", levels)
		}
	})
}
