package main

import (
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/migrate-hpc/migrate/agent/api"
	"github.com/migrate-hpc/migrate/job"
)

// evil is what users can name files, processes and jobs: a terminal would change its title, be
// wiped, send input of its own, and show text backwards; a reader would take the last two
// lines for ours.
const evil = "a\x1b]0;owned\x07b\x1b[2Jc\u009b6nd\u202ee\x7f\r\ntry: rm -rf /\nmigrate: all is well\tf\v\f"

// obeyed is what of it must never reach a terminal.
func obeyed(out string) (found []string) {
	for _, s := range []string{"\x1b]", "\x1b[2J", "\u009b", "\u202e", "\x7f", "\a", "\v", "\f"} {
		if strings.Contains(out, s) {
			found = append(found, s)
		}
	}
	if !utf8.ValidString(out) {
		found = append(found, "what is not UTF-8")
	}
	return found
}

// spoken are the lines of it that look like ours.
func spoken(out string) (found []string) {
	for line := range strings.Lines(out) {
		for _, s := range []string{"try: rm", "migrate: all"} {
			if strings.HasPrefix(line, s) {
				found = append(found, line)
			}
		}
	}
	return found
}

// fill sets every string in v, and gives every list and map an element.
func fill(v reflect.Value) {
	switch v.Kind() {
	case reflect.String:
		v.SetString(evil)
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fill(v.Elem())
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 1, 1))
		fill(v.Index(0))
	case reflect.Map:
		key, value := reflect.New(v.Type().Key()).Elem(), reflect.New(v.Type().Elem()).Elem()
		fill(key)
		fill(value)
		v.Set(reflect.MakeMap(v.Type()))
		v.SetMapIndex(key, value)
	case reflect.Struct:
		if v.Type() == reflect.TypeFor[time.Time]() {
			return
		}
		for i := range v.NumField() {
			fill(v.Field(i))
		}
	case reflect.Int64, reflect.Int:
		v.SetInt(7)
	}
}

func filled[T any]() (v T) {
	fill(reflect.ValueOf(&v).Elem())
	return v
}

// How an evilAgent answers.
const (
	tells  = "tells"
	fails  = "fails"
	prints = "prints" // its job's output is its own
)

// evilAgent says evil, whatever it is asked.
func evilAgent(t *testing.T, uid uint32, how string) (socket string) {
	t.Helper()
	j := filled[api.Job]()
	j.State, j.MovedTo, j.Spec.UID, j.Caught = api.JobExited, nil, uid, new(uint64)
	j.Exit = &job.Exit{}
	if how == prints {
		j.Spec.Stdout, j.Spec.Stderr = "", "/dev/null"
	}
	answer := func(path string) any {
		switch {
		case path == "/v1/jobs":
			return []api.Job{j}
		case path == "/v1/moves":
			return []api.MoveSummary{filled[api.MoveSummary]()}
		case strings.HasSuffix(path, "/resolve"):
			return filled[api.ResolvePlan]()
		case strings.HasPrefix(path, "/v1/moves/"):
			return filled[api.MoveRecord]()
		}
		return j
	}
	mux := http.NewServeMux()
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		e := filled[api.Error]()
		e.Code = api.CodeRefused
		switch {
		case how == prints && strings.HasSuffix(r.URL.Path, "/exec"):
			_ = api.ServeExec(w, r, func(_ context.Context, _ api.ExecRequest, _ io.Reader, out, _ io.Writer) (int, error) {
				_, err := io.WriteString(out, evil)
				return 0, err
			})
		case how == fails, strings.HasSuffix(r.URL.Path, "/exec"):
			w.WriteHeader(e.Code.Status())
			_ = json.NewEncoder(w).Encode(e)
		case strings.HasSuffix(r.URL.Path, "/logs"):
			offset, _ := strconv.Atoi(r.URL.Query().Get("offset"))
			_, _ = w.Write([]byte(evil)[min(offset, len(evil)):])
		case r.Method == "POST" && (r.URL.Path == "/v1/restore" || strings.HasSuffix(r.URL.Path, "/move") || strings.HasSuffix(r.URL.Path, "/checkpoint")):
			_ = json.NewEncoder(w).Encode(api.Event{Phase: api.PhaseQueue, Note: evil, Round: &api.Round{Number: 1, Reason: evil}})
			_ = json.NewEncoder(w).Encode(api.Event{Phase: evil, Total: 10, Read: 5})
			done := filled[api.Result]()
			_ = json.NewEncoder(w).Encode(api.Event{Done: &done})
		case r.Method == "POST" && r.URL.Path == "/v1/jobs":
			_ = json.NewEncoder(w).Encode(j)
		default:
			_ = json.NewEncoder(w).Encode(answer(r.URL.Path))
		}
	})
	socket = filepath.Join(t.TempDir(), "agent.sock")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	s := &httptest.Server{Listener: l, Config: &http.Server{Handler: mux}}
	s.Start()
	t.Cleanup(s.Close)
	return socket
}

// lines are command lines of every command that prints what an agent says.
var lines = map[string][]string{
	"run": {"run -d -- true", "run -- true"}, "ps": {"ps -a", "ps -a --json"}, "inspect": {"inspect sim", "inspect m0123456789abcdef", "inspect --json sim"},
	"logs": {"logs sim", "logs -f --stderr sim"}, "wait": {"wait sim"}, "kill": {"kill sim"}, "exec": {"exec sim true"}, "rm": {"rm sim sum"},
	"move": {"move sim node-b", "move --json sim node-b"}, "moves": {"moves -a", "moves --json"}, "report": {"report -o - m0123456789abcdef"},
	"resolve": {"resolve --take --yes m0123456789abcdef"}, "checkpoint": {"checkpoint sim /d"}, "restore": {"restore -d /d", "restore /d", "restore --json /d"},
	"explain": {"explain -"},
	// These print nothing of others'.
	"pki": nil, "agent": nil, "demo": nil, "version": nil, "completion": nil, "help": nil,
}

func TestTerminalGetsNoEscapesOfOthers(t *testing.T) {
	const other = 4711
	c, _, _ := newCLI(nil)
	root := newRoot(c)
	root.InitDefaultCompletionCmd()
	root.InitDefaultHelpCmd()
	for _, cmd := range root.Commands() {
		if _, ok := lines[cmd.Name()]; !ok {
			t.Errorf("%s prints what?", cmd.Name())
		}
	}
	for _, how := range []string{tells, fails, prints} {
		socket := evilAgent(t, other, how)
		for name, all := range lines {
			for _, line := range all {
				c, out, errs := newCLI(nil)
				c.outTerminal, c.errTerminal, c.uid = true, true, 0 // root looks on
				c.execute(t.Context(), append([]string{"--socket", socket}, strings.Fields(line)...))
				found := append(obeyed(out.String()), obeyed(errs.String())...)
				found = append(found, spoken(errs.String())...)
				if own := name != "report" && (name != "logs" || how == fails) && (how != prints || name != "run" && name != "restore" && name != "exec"); own {
					found = append(found, spoken(out.String())...) // elsewhere the lines are a job's, or of HTML
				}
				if len(found) > 0 {
					t.Errorf("%s, of an agent that %s: %q\nout: %q\nerr: %q", line, how, found, out, errs)
				}
			}
		}
	}
}

// A job's bytes are its user's, and root's as long as root does not look at them.
func TestTerminalGetsOtherUsersOutputEscapedAPipeWhole(t *testing.T) {
	for _, tc := range []struct {
		uid      uint32
		terminal bool
		whole    bool
	}{{0, true, true}, {0, false, true}, {4711, false, true}, {4711, true, false}} {
		socket := evilAgent(t, tc.uid, prints)
		for _, line := range []string{"logs sim", "logs -f sim", "restore -q /d", "exec sim true"} {
			c, out, errs := newCLI(nil)
			c.outTerminal, c.uid = tc.terminal, 0
			if code := c.execute(t.Context(), append([]string{"--socket", socket}, strings.Fields(line)...)); code != 0 {
				t.Fatalf("exit %d, %s", code, errs)
			}
			if whole := out.String() == evil; whole != tc.whole || !tc.whole && len(obeyed(out.String())) > 0 {
				t.Errorf("%s of user %d's job, on a terminal %t: %q", line, tc.uid, tc.terminal, out)
			}
		}
	}
}

func TestJSONKeepsItsMeaningWhenEscaped(t *testing.T) {
	c, out, _ := newCLI(nil)
	if code := c.execute(t.Context(), []string{"--socket", evilAgent(t, 0, tells), "inspect", "--json", "sim"}); code != 0 {
		t.Fatal(code)
	}
	var j api.Job
	if err := json.Unmarshal([]byte(out.String()), &j); err != nil || j.Spec.Stdout != evil || len(obeyed(out.String())) > 0 {
		t.Errorf("%v, %q from %q", err, j.Spec.Stdout, out)
	}
}

func TestCompletionScriptsAreNotEscaped(t *testing.T) {
	for _, shell := range []string{"bash", "zsh", "fish", "powershell"} {
		var want strings.Builder
		c, out, _ := newCLI(nil)
		plain := newRoot(c)
		plain.SetOut(&want)
		plain.SetArgs([]string{"completion", shell})
		if err := plain.Execute(); err != nil {
			t.Fatal(err)
		}
		if code := c.execute(t.Context(), []string{"completion", shell}); code != 0 || out.String() != want.String() || want.Len() < 1000 {
			t.Errorf("%s: exit %d, %d bytes of %d", shell, code, len(out.String()), want.Len())
		}
	}
}
