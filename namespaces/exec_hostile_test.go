package namespaces

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/migrate-hpc/migrate/testenv"
)

// hostileJob is a job that has called ready, and a visit that leaves "visited" in the
// directory.
func hostileJob(t *testing.T, script string, edit func(*Config)) (v ExecSpec, dir string) {
	t.Helper()
	cfg, dir := configuration(t, "ready() { touch "+IOMount+"/ready; }\n"+script)
	cfg.RootDir = testenv.OpenDir(t)
	if edit != nil {
		edit(&cfg)
	}
	pid := started(t, cfg, StartEnv{})
	eventually(t, "the job is ready", func() bool {
		if ended, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid)); err != nil || bytes.Contains(ended, []byte(") Z ")) {
			t.Fatal(readFile(t, filepath.Join(dir, "stderr")))
		}
		return exists(dir, "ready")
	})
	return ExecSpec{Init: pid, Args: []string{"touch", IOMount + "/visited"}, Env: cfg.Env, WorkDir: "/", UID: cfg.UID, GID: cfg.GID, UserNS: cfg.User}, dir
}

// withUsers gives a job a user namespace of its own.
func withUsers(cfg *Config) {
	cfg.User = true
	cfg.UIDs, cfg.GIDs = PrivateMaps(1<<30, cfg.UID, cfg.GID, cfg.Groups)
}

func ownedBy(uid uint32) func(*Config) {
	return func(cfg *Config) { cfg.UID, cfg.GID = uid, uid }
}

func exists(dir, name string) bool {
	_, err := os.Lstat(filepath.Join(dir, name))
	return err == nil
}

func TestAVisitorDoesNotFollowAJobIntoNamespacesOfItsOwnMaking(t *testing.T) {
	t.Parallel()
	const stray = `exec unshare %s --map-root-user sh -c "touch ` + IOMount + `/ready; exec sleep 1000"`
	for name, c := range map[string]struct {
		script string
		edit   func(*Config)
	}{
		"a user's":                    {fmt.Sprintf(stray, "--user --mount"), ownedBy(4242)},
		"root's":                      {fmt.Sprintf(stray, "--user --mount"), nil},
		"of users only":               {fmt.Sprintf(stray, "--user"), ownedBy(4242)},
		"within a namespace":          {fmt.Sprintf(stray, "--user --mount"), withUsers},
		"within, and of users":        {fmt.Sprintf(stray, "--user"), withUsers},
		"not without, as it was told": {"ready; exec sleep 1000", withUsers},
		"not with, as it was told":    {"ready; exec sleep 1000", nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			v, dir := hostileJob(t, c.script, c.edit)
			if strings.HasPrefix(name, "not ") {
				v.UserNS = !v.UserNS
			}
			code, err := Exec(testenv.Bounded(t), v)
			var start *StartError
			if !errors.As(err, &start) || !strings.Contains(err.Error(), "has left the namespaces that it was started in") {
				t.Errorf("got %d %v", code, err)
			}
			if exists(dir, "visited") {
				t.Error("the command has run")
			}
		})
	}
}

func TestAVisitorDoesNotTakeAProcessOfTheNodeForAJob(t *testing.T) {
	t.Parallel()
	testenv.NeedRoot(t)
	code, err := Exec(testenv.Bounded(t), ExecSpec{Init: os.Getpid(), Args: []string{"true"}, WorkDir: "/"})
	if err == nil || !strings.Contains(err.Error(), "node's") {
		t.Errorf("got %d %v", code, err)
	}
}

// cover puts programs of the job's where a path would lead to ours.
const cover = `mkdir -p /tmp/self/fd
for n in $(seq 0 99) exe; do
	f=/tmp/self/fd/$n; [ $n = exe ] && f=/tmp/self/exe
	printf '#!/bin/sh\ntouch ` + IOMount + `/taken\n' >$f; chmod 755 $f
done
mount --move /tmp /proc # which may fail to write that down
[ -s /proc/self/fd/99 ] || exit 1
ready
exec sleep 1000`

func TestAVisitorRunsNothingThatTheJobHasPutInItsWay(t *testing.T) {
	t.Parallel()
	for name, edit := range map[string]func(*Config){"root's": nil, "in a user namespace": withUsers} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			v, dir := hostileJob(t, cover, edit)
			var out bytes.Buffer
			v.Stdout, v.Stderr = &out, &out
			if code, err := Exec(testenv.Bounded(t), v); code != 0 || err != nil || !exists(dir, "visited") {
				t.Errorf("got %d %v\n%s", code, err, out.String())
			}
			if exists(dir, "taken") {
				t.Error("a program of the job's was run in place of ours")
			}
		})
	}
}

func TestAVisitThatIsCalledOffLeavesNothing(t *testing.T) {
	v, _ := hostileJob(t, "ready; exec sleep 1000", nil)
	v.Env = []string{"LONG=" + strings.Repeat("x", 120<<10), "LONGER=" + strings.Repeat("x", 120<<10)} // more than a pipe takes
	v.Args = []string{"sleep", "1000"}
	before := tracesNow(t)
	for range 40 {
		ctx, cancel := context.WithTimeout(context.Background(), time.Duration(rand.Int64N(int64(40*time.Millisecond))))
		if code, err := Exec(ctx, v); err == nil && code == 0 {
			t.Error("a command that was ended ended well")
		}
		cancel()
	}
	if after := tracesNow(t); !after.equal(before) {
		t.Errorf("there was %+v, there is %+v", before, after)
	}
	eventually(t, "only the job is left in its namespace", func() bool { return len(processesIn(t, v.Init)) == 1 })
}

// halfway brings a command into the job's namespaces with the rights that it had outside. The
// command stays there for the rest of the test.
func halfway(t *testing.T, v ExecSpec, without string) {
	t.Helper()
	runtime.LockOSThread()
	t.Cleanup(runtime.UnlockOSThread)
	job, err := openTarget(v)
	if err != nil {
		t.Fatal(err)
	}
	defer closeNamespaces(job.fds)
	unheard, trouble := pipe(t)
	waits, goes := pipe(t)
	p := childPlan{errFD: int(trouble.Fd())}
	if err := p.planExec(v, job, int(unheard.Fd())); err != nil {
		t.Fatal(err)
	}
	// A process that has once used a user's rights to files is not dumpable any more.
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 1, 0, 0, 0); err != nil {
		t.Fatal(err)
	}
	p.steps = slices.DeleteFunc(p.steps, func(s childCall) bool { return s.what == without })
	ids := slices.IndexFunc(p.steps, func(s childCall) bool { return s.what == "set groups" })
	none := make([]byte, 1)
	wait := call("wait", unix.SYS_READ, int(waits.Fd()), 0, len(none))
	wait.mem[1] = unsafe.Pointer(&none[0])
	p.steps = append(p.steps[:ids:ids], call("close", unix.SYS_CLOSE, int(goes.Fd())), wait)
	first, err := p.fork(0)
	if err != nil {
		t.Fatal(err)
	}
	if ws, err := wait4(first); err != nil || ws != 0 {
		t.Fatal(ws, err)
	}
	for _, pid := range processesIn(t, v.Init) {
		if pid != v.Init {
			t.Cleanup(func() {
				if ws, err := wait4(pid); err != nil || ws != 0 {
					t.Error(ws, err)
				}
			})
		}
	}
	t.Cleanup(func() { _ = goes.Close() }) // before the wait
}

func pipe(t *testing.T) (r, w *os.File) {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = r.Close(), w.Close() }) // some are closed by then
	return r, w
}

func TestAJobsRootCannotReachAVisitorThatHasMoreRights(t *testing.T) {
	const look = `for p in /proc/[0-9]*; do echo $(grep ^Uid: $p/status | cut -f2) $(readlink $p/exe || echo hidden); done`
	for name, c := range map[string]struct{ without, want string }{
		"as it comes":         {"", "65534 hidden\n"},
		"if it were dumpable": {"become undumpable", "65534 /"},
	} {
		t.Run(name, func(t *testing.T) {
			v, _ := hostileJob(t, "ready; exec sleep 1000", withUsers)
			halfway(t, v, c.without)
			var out bytes.Buffer
			v.Stdout, v.Args = &out, []string{"sh", "-c", look}
			if code, err := Exec(testenv.Bounded(t), v); code != 0 || err != nil || !strings.Contains(out.String(), c.want) {
				t.Errorf("got %d %v\n%s", code, err, out.String())
			}
		})
	}
}

// processesIn are those in the pid namespace of a process.
func processesIn(t *testing.T, pid int) (pids []int) {
	t.Helper()
	own := readlink(t, "/proc/"+strconv.Itoa(pid)+"/ns/pid")
	links, err := filepath.Glob("/proc/[0-9]*/ns/pid")
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range links {
		if ns, err := os.Readlink(l); err == nil && ns == own {
			n, _ := strconv.Atoi(strings.Split(l, "/")[2]) // it is a number
			pids = append(pids, n)
		}
	}
	return pids
}

func TestAReportIsReadThoughSomebodyKeepsItOpen(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer w.Close()
	for _, want := range []string{startedMark, ""} {
		if _, err := unix.Write(int(w.Fd()), []byte(want)); err != nil {
			t.Fatal(err)
		}
		inTime(t, func() {
			if got, err := readAvailable(r); got != want || err != nil {
				t.Errorf("got %q %v, want %q", got, err, want)
			}
		})
	}
}
