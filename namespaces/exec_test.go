package namespaces

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/migrate-hpc/migrate/namespaces/cgroup"
	"github.com/migrate-hpc/migrate/procfs"
	"github.com/migrate-hpc/migrate/testenv"
)

// inhabited is a job that only waits, in a cgroup, and a command to execute in it.
func inhabited(t *testing.T, user uint32) ExecSpec {
	t.Helper()
	c := newCgroup(t)
	cfg, _ := configuration(t, "exec sleep 1000")
	cfg.UID, cfg.GID, cfg.Groups = user, user, []uint32{5, 6, 7}
	pid := started(t, cfg, StartEnv{Cgroup: c})
	return ExecSpec{Init: pid, Env: []string{"PATH=/usr/bin:/bin"}, WorkDir: "/usr", UID: user, GID: user, Cgroup: c.Dirs}
}

func TestAVisitor(t *testing.T) {
	t.Parallel()
	for _, user := range []uint32{0, 4242} {
		t.Run("uid "+strconv.Itoa(int(user)), func(t *testing.T) {
			v := inhabited(t, user)
			for name, claim := range map[string]func(*testing.T, ExecSpec){
				"is in every namespace of the job":  inEveryNamespace,
				"ends with its command's status":    endsWithStatus,
				"reads and writes what it is given": readsAndWrites,
				"that cannot begin says why":        saysWhy,
				"ends when it is cancelled":         endsWhenCancelled,
				"dies with whoever asked for it":    diesWithItsAsker,
			} {
				t.Run(name, func(t *testing.T) { claim(t, v) })
			}
		})
	}
}

func inEveryNamespace(t *testing.T, v ExecSpec) {
	var out bytes.Buffer
	v.Stdout, v.Stderr = &out, &out
	v.Groups = []uint32{5, 6, 8}
	v.Args = []string{"sh", "-c", introduce + "echo cgroup.path $(cat /proc/self/cgroup | grep -E ':(freezer|):' | head -1 | cut -d: -f3)"}
	code, err := Exec(testenv.Bounded(t), v)
	if err != nil || code != 0 {
		t.Fatalf("%d %v\n%s", code, err, out.String())
	}
	got := facts(out.String())
	want, err := Of(v.Init)
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range Kinds {
		if got["ns."+k] != want[k] {
			t.Errorf("its %s namespace is %s, the job's %s", k, got["ns."+k], want[k])
		}
	}
	own := strings.TrimSpace(strings.Repeat(strconv.Itoa(int(v.UID))+" ", 4))
	for name, want := range map[string]string{
		"Uid": own, "Gid": own, "Groups": "5 6", "NoNewPrivs": "1",
		"fds": "0 1 2", "cwd": "/usr", "hostname": "claims", "env": "PATH=/usr/bin:/bin", "cgroup.path": "/", "session": got["pid"],
	} {
		if got[name] != want {
			t.Errorf("%s is %q, want %q", name, got[name], want)
		}
	}
}

func TestAVisitorToAUserNamespaceIsMapped(t *testing.T) {
	t.Parallel()
	cfg, _ := configuration(t, "exec sleep 1000")
	cfg.User = true
	cfg.UIDs, cfg.GIDs = PrivateMaps(1<<30, 1000, 1000, nil)
	cfg.UID, cfg.GID, cfg.RootDir = 1000, 1000, testenv.OpenDir(t)
	pid := started(t, cfg, StartEnv{})
	var out bytes.Buffer
	code, err := Exec(testenv.Bounded(t), ExecSpec{Init: pid, Args: []string{"sh", "-c", introduce}, Env: cfg.Env, WorkDir: "/", UID: 1000, GID: 1000, UserNS: true, Stdout: &out, Stderr: &out})
	if err != nil || code != 0 {
		t.Fatalf("%d %v\n%s", code, err, out.String())
	}
	if got := facts(out.String()); got["ns.user"] != readlink(t, "/proc/"+strconv.Itoa(pid)+"/ns/user") || got["Uid"] != "1000 1000 1000 1000" {
		t.Errorf("got %v", got)
	}
}

func endsWithStatus(t *testing.T, v ExecSpec) {
	for script, want := range map[string]int{"exit 0": 0, "exit 41": 41, "kill -KILL $$": 137, "kill -SEGV $$": 139} {
		v.Args = []string{"sh", "-c", script}
		if code, err := Exec(testenv.Bounded(t), v); err != nil || code != want {
			t.Errorf("%s: %d %v, want %d", script, code, err, want)
		}
	}
}

func readsAndWrites(t *testing.T, v ExecSpec) {
	var out, errOut bytes.Buffer
	v.Args = []string{"sh", "-c", "tr a-z A-Z; echo wrong >&2"}
	v.Stdin, v.Stdout, v.Stderr = strings.NewReader("hello"), &out, &errOut
	if code, err := Exec(testenv.Bounded(t), v); err != nil || code != 0 || out.String() != "HELLO" || errOut.String() != "wrong\n" {
		t.Errorf("%d %v %q %q", code, err, out.String(), errOut.String())
	}
}

func saysWhy(t *testing.T, v ExecSpec) {
	for name, c := range map[string]struct {
		spoil func(*ExecSpec)
		names string
	}{
		"no such command":   {func(v *ExecSpec) { v.Args = []string{"no-such-command"} }, "no-such-command"},
		"no such file":      {func(v *ExecSpec) { v.Args = []string{"/no/such/command"} }, "/no/such/command"},
		"no work directory": {func(v *ExecSpec) { v.WorkDir = "/no/such/dir" }, "/no/such/dir"},
		"no such user":      {func(v *ExecSpec) { v.UID = ^uint32(0) }, "set user 4294967295: invalid argument"},
		"job gone":          {func(v *ExecSpec) { v.Init = 1 << 30 }, "1073741824"},
		"cgroup gone":       {func(v *ExecSpec) { v.Cgroup = map[string]string{"freezer": "/no/such/cgroup"} }, "/no/such/cgroup"},
	} {
		t.Run(name, func(t *testing.T) {
			v := v
			v.Args = []string{"true"}
			c.spoil(&v)
			code, err := Exec(testenv.Bounded(t), v)
			var start *StartError
			if !errors.As(err, &start) || !strings.Contains(err.Error(), c.names) {
				t.Errorf("got %d %v", code, err)
			}
			if name != "cgroup gone" && name != "job gone" && !lonely(t, v) {
				t.Error("it left something in the job's cgroup")
			}
		})
	}
}

func endsWhenCancelled(t *testing.T, v ExecSpec) {
	for range 3 {
		said := newLockedBuffer()
		v.Args, v.Stdout = []string{"sh", "-c", "echo here; exec sleep 1000"}, said
		ctx, cancel := context.WithCancel(context.Background())
		ended := make(chan int, 1)
		go func() {
			code, _ := Exec(ctx, v) // its error is told by the code
			ended <- code
		}()
		said.next(t)
		cancel()
		select {
		case code := <-ended:
			if code == 0 {
				t.Error("a command that was ended ended well")
			}
		case <-time.After(testenv.Patience):
			t.Fatal("the visit goes on")
		}
		eventually(t, "only the job is left in its cgroup", func() bool { return lonely(t, v) })
	}
}

func TestAVisitorThatComesToAFrozenJobGoesInLaterOrHasDoneNothing(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		then func(*cgroup.Cgroup, context.Context) error
		want error
		code int
	}{
		"the job goes on": {(*cgroup.Cgroup).Thaw, nil, 41},
		"the job ends":    {(*cgroup.Cgroup).Kill, ErrNotStarted, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			v := inhabited(t, 0)
			v.Args = []string{"sh", "-c", "exit 41"}
			cg := &cgroup.Cgroup{Dirs: v.Cgroup}
			if err := cg.Freeze(testenv.Bounded(t)); err != nil {
				t.Fatal(err)
			}
			type end struct {
				code int
				err  error
			}
			ended := make(chan end, 1)
			go func() {
				code, err := Exec(testenv.Bounded(t), v)
				ended <- end{code, err}
			}()
			eventually(t, "the visitor is in the cgroup", func() bool { return !lonely(t, v) })
			if err := c.then(cg, testenv.Bounded(t)); err != nil {
				t.Fatal(err)
			}
			if got := <-ended; got.code != c.code || !errors.Is(got.err, c.want) {
				t.Errorf("got %d %v, want %d %v", got.code, got.err, c.code, c.want)
			}
		})
	}
}

func lonely(t *testing.T, v ExecSpec) bool {
	t.Helper()
	pids, err := (&cgroup.Cgroup{Dirs: v.Cgroup}).Pids()
	if err != nil {
		t.Fatal(err)
	}
	return len(pids) == 1 && pids[0] == v.Init
}

func diesWithItsAsker(t *testing.T, v ExecSpec) {
	for range 5 { // the kernel sends a thread's death, so it matters which one asked
		v.Args = []string{"sleep", "1000"}
		description, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		asker := exec.Command("/proc/self/exe", visitorRole, string(description))
		if err := asker.Start(); err != nil {
			t.Fatal(err)
		}
		eventually(t, "the visitor sleeps", func() bool { return sleepers(t, v) == 1 })
		if err := asker.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		_ = asker.Wait() // killed
		eventually(t, "only the job is left in its cgroup", func() bool { return lonely(t, v) })
	}
}

// sleepers counts the visitors in the job's cgroup that have become their
// command.
func sleepers(t *testing.T, v ExecSpec) (n int) {
	t.Helper()
	pids, err := (&cgroup.Cgroup{Dirs: v.Cgroup}).Pids()
	if err != nil {
		t.Fatal(err)
	}
	for _, pid := range pids {
		comm, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/comm")
		if err != nil && !procfs.IsGone(err) {
			t.Fatal(err)
		}
		if pid != v.Init && strings.HasPrefix(string(comm), "sleep") {
			n++
		}
	}
	return n
}
