package server

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/migrate-hpc/migrate/agent/api"
	"github.com/migrate-hpc/migrate/agent/caller"
	"github.com/migrate-hpc/migrate/agent/node/nodetest"
	"github.com/migrate-hpc/migrate/handoff"
	"github.com/migrate-hpc/migrate/job"
	"github.com/migrate-hpc/migrate/namespaces/cgroup"
	"github.com/migrate-hpc/migrate/shim"
	"github.com/migrate-hpc/migrate/testenv"
)

// frozenCopy is a job of root's that a move has frozen, with one task.
func frozenCopy(t *testing.T, a *Server) (job.Record, *cgroup.Cgroup) {
	t.Helper()
	cg := &cgroup.Cgroup{Dirs: nodetest.FrozenCgroup(t).Dirs}
	cmd := exec.Command("sleep", "1000")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	reaped := make(chan struct{})
	go func() {
		_ = cmd.Wait() // killed
		close(reaped)
	}()
	t.Cleanup(func() {
		if err := cg.Kill(testenv.Bounded(t)); err != nil {
			t.Error(err)
		}
		<-reaped
	})
	if err := cg.Enter(cmd.Process.Pid); err != nil {
		t.Fatal(err)
	}
	rec := nodetest.Known(t, a.Node, func(r *job.Record) { r.Cgroup, r.Epoch, r.Spec.UID, r.Spec.GID = cg.Dirs, 1, 0, 0 })
	nodetest.PlayShim(t, a.Node, rec.ID, func(w http.ResponseWriter, _ *http.Request) {
		_ = json.NewEncoder(w).Encode(shim.Status{State: shim.Running, Init: cmd.Process.Pid, Shim: os.Getpid()})
	})
	return rec, cg
}

// wouldThaw is all that a user can ask for that ends a freeze.
func wouldThaw(t *testing.T, id job.ID) []*http.Request {
	t.Helper()
	dir := filepath.Join(testenv.OpenDir(t), "saved")
	at := "/v1/jobs/" + string(id)
	return []*http.Request{
		httptest.NewRequest("POST", at+"/checkpoint", strings.NewReader(fmt.Sprintf(`{"dir":%q,"leave_running":true}`, dir))),
		httptest.NewRequest("POST", at+"/checkpoint", strings.NewReader(fmt.Sprintf(`{"dir":%q}`, dir))),
		httptest.NewRequest("POST", at+"/move", strings.NewReader(`{"node":"there","addr":"127.0.0.1:1","force":true}`)),
		httptest.NewRequest("POST", at+"/signal", strings.NewReader(`{"signal":9}`)),
		httptest.NewRequest("POST", at+"/exec", strings.NewReader(`{"args":["true"]}`)),
		httptest.NewRequest("DELETE", at+"?force=true", nil),
	}
}

var root = caller.Caller{UID: 0}

// codeIn is the code of the error in an answer, which may be its last event.
func codeIn(t *testing.T, w *httptest.ResponseRecorder) api.Code {
	t.Helper()
	var e api.Error
	var last api.Event
	for line := range strings.Lines(w.Body.String()) {
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			t.Fatalf("%v in %s", err, w.Body)
		}
		if e.Code == "" && json.Unmarshal([]byte(line), &last) == nil && last.Error != nil {
			e = *last.Error
		}
	}
	return e.Code
}

// A copy that a committed move has left frozen must not run again, whatever happens to the
// journal that says so.
func TestGuardKeepsAFrozenCopyFromRunningWhateverDamagesTheJournal(t *testing.T) {
	a := newAgent(t)
	rec, cg := frozenCopy(t, a)
	move := handoff.NewMoveID()
	for _, state := range []handoff.State{handoff.StateFrozen, handoff.StateCommitted} {
		if err := a.Journal.Append(handoff.Record{Move: move, Kind: handoff.KindMove, Job: string(rec.ID), Role: handoff.RoleSource, Peer: "there", PeerAddr: "127.0.0.1:1",
			Epoch: 1, State: state, BootID: a.Boot}); err != nil {
			t.Fatal(err)
		}
	}
	file := filepath.Join(a.Paths.Moves(), string(move)+".journal")
	whole, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	damage := map[string][]byte{"empty": nil, "garbage": []byte("garbage"), "half a line": whole[:40], "zeros": make([]byte, len(whole))}
	for i := range whole {
		data := bytes.Clone(whole)
		data[i] ^= 1 << (i % 8)
		damage[fmt.Sprintf("byte %d", i)] = data
	}
	for name, data := range damage {
		if err := os.WriteFile(file, data, 0o600); err != nil {
			t.Fatal(err)
		}
		nodetest.ReopenJournal(t, a.Node)
		if rec, err := a.Journal.Get(move); err == nil { // the damage was of no account
			if rec.State != handoff.StateCommitted {
				t.Fatalf("%s: the move is %s", name, rec.State)
			}
			continue
		}
		for _, r := range wouldThaw(t, rec.ID) {
			w := answer(a, root, r)
			if code := codeIn(t, w); code != api.CodeRefused && code != api.CodeFailed {
				t.Errorf("%s: %s %s: %d %s", name, r.Method, r.URL, w.Code, w.Body)
			}
			held, err := cg.SelfFreezing()
			frozen, frozenErr := cg.Frozen()
			if pids, pidsErr := cg.Pids(); !held || !frozen || len(pids) != 1 || errors.Join(err, frozenErr, pidsErr) != nil {
				t.Fatalf("%s: %s %s: held %v, frozen %v, tasks %v", name, r.Method, r.URL, held, frozen, pids)
			}
		}
		if err := a.CheckArrival(rec); nodetest.CodeOf(err) != api.CodeRefused {
			t.Errorf("%s: the job may come here: %v", name, err)
		}
	}
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	nodetest.ReopenJournal(t, a.Node)
	w := answer(a, root, httptest.NewRequest("POST", "/v1/moves/"+string(move)+"/resolve?forget=true", nil))
	if w.Code != http.StatusOK {
		t.Fatalf("%d %s", w.Code, w.Body)
	}
	// Without the guard the freeze still has no owner here that may end it.
	for _, r := range wouldThaw(t, rec.ID)[:3] {
		if code := codeIn(t, answer(a, root, r)); code != api.CodeSuspended {
			t.Errorf("%s: %s", r.URL, code)
		}
	}
	if held, err := cg.SelfFreezing(); !held || err != nil {
		t.Errorf("held %v, %v", held, err)
	}
}
