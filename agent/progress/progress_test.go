package progress

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"testing"

	"github.com/migrate-hpc/migrate/agent/api"
)

// events decodes what a Progress has written.
func events(t *testing.T, out *bytes.Buffer) (list []api.Event) {
	t.Helper()
	for dec := json.NewDecoder(out); dec.More(); {
		var e api.Event
		if err := dec.Decode(&e); err != nil {
			t.Fatal(err)
		}
		list = append(list, e)
	}
	return list
}

func TestProgressTellsPhasesInOrderAndTheEndOnceAndLast(t *testing.T) {
	var out bytes.Buffer
	read := int64(0)
	tell := New(&out, "j", "m", func(e *api.Event) { read++; e.Read = read })
	phases := []api.Phase{api.PhasePreflight, api.PhaseWarmup, api.PhaseFreeze, api.PhaseDump, api.PhaseFreeze}
	for _, p := range phases {
		tell.Enter(p, "note of "+string(p))
	}
	tell.End(&api.Result{Job: "j"}, nil)
	list := events(t, &out)
	var seen []api.Phase
	for i, e := range list {
		if e.Job != "j" || e.Move != "m" || (i > 0 && (e.Read <= list[i-1].Read || e.At.Before(list[i-1].At))) {
			t.Errorf("event %d: %+v", i, e)
		}
		if (e.Done != nil) != (i == len(list)-1) || e.Error != nil {
			t.Errorf("event %d ends it: %+v", i, e)
		}
		if e.Note != "" {
			seen = append(seen, e.Phase)
		}
	}
	if fmt.Sprint(seen) != fmt.Sprint(phases) {
		t.Errorf("told %v", seen)
	}
	done := list[len(list)-1].Done
	if len(done.Phases) != 4 || done.Took <= 0 || done.Read != read {
		t.Errorf("ended with %+v", done)
	}
}

func TestProgressOfAFailureEndsWithTheError(t *testing.T) {
	var out bytes.Buffer
	tell := New(&out, "j", "m", nil)
	tell.Enter(api.PhaseDump, "")
	tell.End(nil, errors.New("no room"))
	list := events(t, &out)
	if last := list[len(list)-1]; last.Error == nil || last.Error.Code != api.CodeFailed || last.Error.Message != "no room" || last.Done != nil {
		t.Errorf("ended with %+v", last)
	}
}

// deaf is a listener that has left.
type deaf struct{}

func (deaf) Write([]byte) (int, error) { return 0, errors.New("nobody listens") }

func TestProgressWithoutAListenerHoldsNothingUp(t *testing.T) {
	var none *Progress
	none.Enter(api.PhaseDump, "") // recovery has none
	for _, tell := range []*Progress{New(io.Discard, "j", "m", nil), New(deaf{}, "j", "m", nil)} {
		tell.Enter(api.PhaseDump, "")
		tell.End(&api.Result{}, nil)
	}
}
