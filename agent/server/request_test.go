package server

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/migrate-hpc/migrate/agent/api"
	"github.com/migrate-hpc/migrate/agent/caller"
	"github.com/migrate-hpc/migrate/agent/launch"
	"github.com/migrate-hpc/migrate/agent/node/nodetest"
	"github.com/migrate-hpc/migrate/agent/target"
	"github.com/migrate-hpc/migrate/job"
)

// Who decides about a field of a request. A new field needs a row.
const (
	callers = "the caller's: it gives no right that the caller lacks"
	checked = "the caller's, within what Validate or the caller's own rights allow"
	nodes   = "the node's: refused in a request"
)

var decides = map[string]string{
	"run.spec.name": checked, "run.spec.hostname": checked, // seen in the job alone
	"run.spec.work_dir": callers, "run.spec.args": checked, "run.spec.env": checked,
	"run.spec.uid": nodes, "run.spec.gid": nodes, "run.spec.groups": nodes, "run.spec.umask": nodes, // the kernel tells
	"run.spec.root": checked, "run.spec.binds.source": checked, // reachable, and opened as the user
	"run.spec.binds.target": checked, "run.spec.binds.read_only": callers, // looked up in the job's root
	"run.spec.stdin": callers, "run.spec.stdout": callers, "run.spec.stderr": callers, // opened in the job, as the user
	"run.spec.rlimits.name": checked, "run.spec.rlimits.soft": checked, "run.spec.rlimits.hard": checked, // mayName
	"run.spec.limits.memory_bytes": checked, "run.spec.limits.cpu_milli": checked, "run.spec.limits.pids": checked,
	"run.spec.output_limit": checked, // and what a user has in all, and the room that is left
	"run.spec.network.mode": checked, "run.spec.network.address": checked, "run.spec.network.gateway": checked, "run.spec.network.mac": checked,
	"run.spec.user_ns": callers, "run.spec.init": callers, // the root of the namespace has no rights outside
	"run.spec.uid_base": nodes,                         // chooseIDs
	"run.foreground":    callers,                       // into a cgroup that the caller is in
	"move.node":         checked, "move.addr": checked, // the node that answers needs its certificate
	"move.connections": checked, "move.max_downtime": callers, "move.throttle": callers, "move.post_copy": callers, "move.force": callers,
	"move.stop_copy": callers, "move.eager": callers, "move.verify": callers, "move.bandwidth": callers, "move.affinity": checked,
	"checkpoint.dir": checked, "checkpoint.leave_running": callers, "checkpoint.verify": callers, // made as the caller
	"restore.dir": checked, "restore.foreground": callers, "restore.clock": checked, // signed, and reached as the caller
	"restore.declared_dead": checked,                                                                      // root's alone: checkDead
	"signal.signal":         checked, "exec.args": callers, "exec.env": callers, "exec.work_dir": callers, // run as the job's user
}

// fields calls each for every leaf of a request's JSON.
func fields(t *testing.T, name string, v reflect.Value, each func(name string, v reflect.Value)) {
	t.Helper()
	if v.Kind() == reflect.Slice && v.Type().Elem().Kind() == reflect.Struct {
		v.Set(reflect.MakeSlice(v.Type(), 1, 1))
		fields(t, name, v.Index(0), each)
		return
	}
	if v.Kind() != reflect.Struct {
		each(name, v)
		return
	}
	for i := range v.NumField() {
		f := v.Type().Field(i)
		tag, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		switch {
		case f.Anonymous && tag == "":
			fields(t, name, v.Field(i), each)
		case tag == "" || tag == "-":
			t.Errorf("%s.%s has no name in JSON", name, f.Name)
		default:
			fields(t, name+"."+tag, v.Field(i), each)
		}
	}
}

func TestRequestFieldsAreEachTheCallersOrTheNodes(t *testing.T) {
	known := map[string]bool{}
	for name, request := range map[string]any{
		"run": &api.RunRequest{}, "move": &api.MoveRequest{}, "checkpoint": &api.CheckpointRequest{}, "restore": &api.RestoreRequest{},
		"signal": &api.SignalRequest{}, "exec": &api.ExecRequest{},
	} {
		fields(t, name, reflect.ValueOf(request).Elem(), func(field string, _ reflect.Value) {
			known[field] = true
			if decides[field] == "" {
				t.Errorf("%s: who decides about it? If the node does, mayAsk must refuse it; then say so in the table decides", field)
			}
		})
	}
	for field := range decides {
		if !known[field] {
			t.Errorf("there is no field %s", field)
		}
	}
}

// some is a value that is not the zero of its type.
func some(t *testing.T, v reflect.Value) {
	t.Helper()
	switch v.Kind() {
	case reflect.String:
		v.SetString("x")
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Int, reflect.Int64:
		v.SetInt(1 << 30)
	case reflect.Uint32, reflect.Uint64:
		v.SetUint(1 << 30)
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 1, 1))
	default:
		t.Fatalf("what is some %s?", v.Type())
	}
}

func TestRequestMayNotSetWhatTheNodeDecides(t *testing.T) {
	a := newAgent(t)
	var all []string
	for field, who := range decides {
		if who == nodes {
			all = append(all, field)
		}
	}
	slices.Sort(all)
	if len(all) < 5 {
		t.Fatalf("the node decides about %v only", all)
	}
	for _, c := range []caller.Caller{nodetest.Owner, nodetest.Operator} {
		for _, want := range all {
			req := api.RunRequest{Spec: job.Spec{UserNS: true}}
			fields(t, "run", reflect.ValueOf(&req).Elem(), func(field string, v reflect.Value) {
				if field == want {
					some(t, v)
				}
			})
			req.Spec.Args, req.Spec.Binds, req.Spec.Rlimits = []string{"true"}, nil, nil
			body, err := json.Marshal(req)
			if err != nil {
				t.Fatal(err)
			}
			w := answer(a, c, httptest.NewRequest("POST", "/v1/jobs", strings.NewReader(string(body))))
			var e api.Error
			name := strings.TrimPrefix(want, "run.spec.")
			if err := json.Unmarshal(w.Body.Bytes(), &e); err != nil || w.Code != http.StatusBadRequest || !strings.HasPrefix(e.Message, name+":") || e.Where != caller.NotStarted {
				t.Errorf("%d asks for %s %s: %d %s", c.UID, want, body, w.Code, w.Body)
			}
		}
	}
	if recs, err := a.Jobs.List(); len(recs) > 0 || err != nil {
		t.Errorf("started: %v %v", recs, err)
	}
}

// What a record says that comes with a job is one of these.
var travels = map[string]string{
	"format": "set by Store", "crc32c": "set by Store", "id": "names the move, too", "spec": "validated, and what was offered", "epoch": "the fence", "created": "told", "mounts": "what was offered",
	"cpu_before": "told", "stays": "told",
	"foreground": nodes, "cgroup": nodes, "moved_to": nodes, "exit": nodes, "saved_in": nodes, "from_move": nodes, "superseded": nodes, "sealed": nodes,
}

func TestArrivingRecordHasNothingOfTheOtherNode(t *testing.T) {
	full := job.Record{Foreground: true, Cgroup: map[string]string{"unified": "/"}, MovedTo: &job.Moved{}, Exit: &job.Exit{}, SavedIn: "/x", FromMove: "m", Superseded: &job.Moved{}, Sealed: "m"}
	v, before := reflect.ValueOf(launch.ArrivingRecord(full)), reflect.ValueOf(full)
	for i := range v.NumField() {
		name, _, _ := strings.Cut(v.Type().Field(i).Tag.Get("json"), ",")
		switch {
		case travels[name] == "":
			t.Errorf("%s: does it travel with a job? If not, arriving must leave it out; then say so in the table travels", name)
		case travels[name] == nodes && (before.Field(i).IsZero() || !v.Field(i).IsZero()):
			t.Errorf("%s arrives as %v", name, v.Field(i))
		}
	}
	a := newAgent(t)
	rec := nodetest.Known(t, a.Node, nil)
	rec.Cgroup, rec.MovedTo, rec.Exit, rec.SavedIn = full.Cgroup, full.MovedTo, full.Exit, full.SavedIn
	l := target.NewJob(a.Targets, "m1", rec.ID)
	if err := os.MkdirAll(l.Dir(), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := l.SetRecord(rec, false); err != nil {
		t.Fatal(err)
	}
	if got, err := l.Record(); err != nil || !got.Here() || got.Cgroup != nil {
		t.Errorf("kept is %+v (%v)", got, err)
	}
}
