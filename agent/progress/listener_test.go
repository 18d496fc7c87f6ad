package progress

import (
	"bytes"
	"fmt"
	"testing"

	"github.com/migrate-hpc/migrate/agent/api"
)

// stopped is a listener that reads nothing until it goes on.
type stopped struct {
	bytes.Buffer
	goesOn chan struct{}
}

func (s *stopped) Write(p []byte) (int, error) {
	<-s.goesOn
	return s.Buffer.Write(p)
}

func TestProgressGoesOnWhileItsListenerIsStoppedAndTellsEveryPhaseLater(t *testing.T) {
	out := &stopped{goesOn: make(chan struct{})}
	tell := New(out, "j", "m", nil)
	phases := []api.Phase{api.PhasePreflight, api.PhaseWarmup, api.PhaseFreeze, api.PhaseDump, api.PhaseResidue, api.PhasePark, api.PhaseCommit, api.PhaseResume, api.PhaseRelease}
	for _, p := range phases {
		tell.Enter(p, "note of "+string(p))
		tell.Round(api.Round{Reason: "round in " + string(p)})
	}
	for range 1000 {
		tell.listener.sendOptional(api.Event{})
	}
	ended := make(chan struct{})
	freed := make(chan struct{})
	go func() {
		defer close(ended)
		tell.End(&api.Result{Job: "j"}, nil, func() { close(freed) })
	}()
	<-freed // before it has read a word
	close(out.goesOn)
	<-ended
	list := events(t, &out.Buffer)
	var heard []api.Phase
	for _, e := range list {
		if e.Note == "note of "+string(e.Phase) && e.Round == nil && (len(heard) == 0 || heard[len(heard)-1] != e.Phase) {
			heard = append(heard, e.Phase)
		}
	}
	if fmt.Sprint(heard) != fmt.Sprint(phases) {
		t.Errorf("heard of %v", heard)
	}
	if len(list) > 100 {
		t.Errorf("%d events have waited", len(list))
	}
	if last := list[len(list)-1]; last.Done == nil {
		t.Errorf("the last event is %+v", last)
	}
}
