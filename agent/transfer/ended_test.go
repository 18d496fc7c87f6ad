package transfer

import (
	"encoding/json"
	"errors"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/migrate-hpc/migrate/agent/api"
	"github.com/migrate-hpc/migrate/agent/httpjson"
	"github.com/migrate-hpc/migrate/agent/node/nodetest"
	"github.com/migrate-hpc/migrate/handoff"
	"github.com/migrate-hpc/migrate/job"
	"github.com/migrate-hpc/migrate/shim"
)

// deadProcess is a process that has ended and is not reaped.
func deadProcess(t *testing.T) int {
	t.Helper()
	cmd := exec.Command("true")
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Wait() })
	_, _ = out.Read(make([]byte, 1)) // its end
	return cmd.Process.Pid
}

func TestAJobThatEndsInAMoveIsNotSaidToRun(t *testing.T) {
	raw := errors.Join(handoff.ErrAborted, errors.New("open /proc/7/mountinfo: no such process"))
	killed := &job.Exit{Code: 137, Signal: 9, OOMKills: 1, At: time.Now()}
	for name, c := range map[string]struct {
		init   int
		before *job.Exit // in its record
		told   *job.Exit // by the shim
		later  *job.Exit // in its record, when the shim has been asked
		err    error
		want   api.Code
		words  string
	}{
		"it is in its record":  {before: &job.Exit{Code: 3}, err: raw, want: api.CodeEnded, words: "with status 3"},
		"the disk refuses it":  {told: killed, err: raw, want: api.CodeEnded, words: "by SIGKILL; the kernel has killed"},
		"it is being written":  {init: deadProcess(t), later: &job.Exit{}, err: raw, want: api.CodeEnded, words: "with status 0"},
		"it runs":              {init: os.Getpid(), err: raw, want: api.CodeAborted, words: "mountinfo"},
		"another copy may run": {before: &job.Exit{}, err: errors.Join(handoff.ErrInDoubt, raw), want: api.CodeInDoubt, words: "mountinfo"},
	} {
		t.Run(name, func(t *testing.T) {
			a := New(nodetest.New(t))
			rec := nodetest.Known(t, a.Node, func(r *job.Record) { r.Exit = c.before })
			nodetest.PlayShim(t, a.Node, rec.ID, func(w http.ResponseWriter, _ *http.Request) {
				_ = json.NewEncoder(w).Encode(shim.Status{State: shim.Running, Init: c.init, Exit: c.told})
				if c.later == nil {
					return
				}
				if _, err := a.Jobs.Update(rec.ID, func(r *job.Record) error { r.Exit = c.later; return nil }); err != nil {
					t.Error(err)
				}
			})
			for _, err := range []error{
				(&moveOp{a: a, rec: rec, id: handoff.NewMoveID(), req: api.MoveRequest{Node: "there"}}).explain(c.err),
				(&checkpointOp{a: a, rec: rec}).explain(c.err),
			} {
				e := httpjson.ErrorOf(err)
				if c.want == api.CodeInDoubt && e.Code == api.CodeAborted {
					continue // a checkpoint in doubt is explained elsewhere
				}
				if e.Code != c.want || !strings.Contains(e.Message, c.words) {
					t.Errorf("%+v", e)
				}
				if c.want == api.CodeEnded && (api.ExitStatus(err) != api.ExitEnded || strings.Contains(e.Message, "mountinfo") || !strings.HasPrefix(e.Where, "over")) {
					t.Errorf("%+v", e)
				}
			}
		})
	}
}
