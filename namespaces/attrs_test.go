package namespaces

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/migrate-hpc/migrate/osthread"
	"github.com/migrate-hpc/migrate/procfs"
	"github.com/migrate-hpc/migrate/testenv"
)

// starterRole makes the test binary a shim whose operator has given it more than others
// have. It starts the job that its argument describes.
const starterRole = "namespaces-test-starter"

const randomizeNot = 0x0040000 // ADDR_NO_RANDOMIZE

func playStarter(description string) error {
	var cfg Config
	if err := json.Unmarshal([]byte(description), &cfg); err != nil {
		return err
	}
	signal.Ignore(syscall.SIGHUP, syscall.SIGINT, syscall.SIGUSR1, syscall.SIGPIPE)
	if err := osthread.Throwaway(func() error { // the thread that starts is one of its own, too
		return errors.Join(unix.Setpriority(unix.PRIO_PROCESS, os.Getpid(), -7), setOOM("self", 321))
	}); err != nil {
		return err
	}
	p, err := Start(context.Background(), cfg, StartEnv{})
	if err != nil {
		return err
	}
	ws, err := p.Wait()
	if ws != 0 {
		err = fmt.Errorf("it ended with %v", ws)
	}
	return err
}

// wrapRole makes the test binary a shim that starts a CRIU, which the arguments are.
const wrapRole = "namespaces-test-wrap"

func playWrap(args []string) error {
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	return osthread.Throwaway(func() error { return errors.Join(ResetAttrs(), cmd.Run()) })
}

// favoured has the test binary play a role with more of everything.
func favoured(t *testing.T, arg ...string) (out string) {
	t.Helper()
	var said lockedWriter
	cmd := exec.Command("/proc/self/exe", arg...)
	cmd.Stdout, cmd.Stderr = &said, os.Stderr
	err := osthread.Throwaway(func() error { // what it gets is this thread's
		attr := unix.SchedAttr{Size: unix.SizeofSchedAttr, Policy: unix.SCHED_RR, Priority: 1}
		if err := unix.SchedSetAttr(0, &attr, 0); err != nil { // no real time in this cgroup
			if err := unix.Setpriority(unix.PRIO_PROCESS, unix.Gettid(), -7); err != nil {
				return err
			}
		}
		_, _, errno := unix.RawSyscall(unix.SYS_PERSONALITY, randomizeNot, 0, 0)
		if errno != 0 {
			return errno
		}
		unix.Umask(0o077)
		defer unix.Umask(0o022)
		blocked := unix.Sigset_t{}
		blocked.Val[0] = 1 << (unix.SIGTERM - 1)
		return errors.Join(setIOPriority(1<<13|4), unix.Prctl(unix.PR_SET_TIMERSLACK, 1, 0, 0, 0), unix.PthreadSigmask(unix.SIG_SETMASK, &blocked, nil), cmd.Run())
	})
	if err != nil {
		t.Fatal(err)
	}
	return said.text
}

// confess prints the attributes that a process has inherited.
const confess = `
grep -E '^(SigBlk|SigIgn|CapInh|CapAmb|CapBnd|Umask|Cpus_allowed_list|NoNewPrivs|Groups):' /proc/self/status | tr -d '\t' | tr ':' ' '
set -- $(cut -d' ' -f19,41 /proc/$$/stat); echo nice $1; echo policy $2
echo oom $(cat /proc/self/oom_score_adj)
echo slack $(cat /proc/self/timerslack_ns)
echo personality $(cat /proc/$$/personality)
echo ionice $(ionice -p $$)
for l in n c s l; do echo hard.$l $(ulimit -H -$l); echo soft.$l $(ulimit -S -$l); done
`

func TestAJobGetsNothingThatItsStarterWasGiven(t *testing.T) {
	for name, edit := range map[string]func(*Config){"a user's": ownedBy(4242), "root's": nil, "in a user namespace": func(c *Config) { ownedBy(4242)(c); withUsers(c) }} {
		t.Run(name, func(t *testing.T) {
			cfg, dir := configuration(t, confess)
			cfg.RootDir, cfg.Umask = testenv.OpenDir(t), 0o022
			if edit != nil {
				edit(&cfg)
			}
			description, err := json.Marshal(cfg)
			if err != nil {
				t.Fatal(err)
			}
			favoured(t, starterRole, string(description))
			got := facts(readFile(t, filepath.Join(dir, "stdout")))
			for fact, want := range map[string]string{
				"SigBlk": "0000000000000000", "SigIgn": "0000000000000000", "CapInh": "0000000000000000", "CapAmb": "0000000000000000", "Umask": "0022", "NoNewPrivs": "1",
				"nice": "0", "policy": "0", "oom": "0", "slack": strconv.Itoa(TimerSlack), "personality": "00000000", "ionice": "none",
			} {
				if fact == "ionice" && strings.HasPrefix(got[fact], "none") {
					continue
				}
				if got[fact] != want {
					t.Errorf("%s is %q, want %q", fact, got[fact], want)
				}
			}
		})
	}
}

// What CRIU does not save, a restored job gets from its RestoreEnv.
func TestARestoredJobGetsNothingThatItsShimWasGiven(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	wrap, err := RestoreEnv{Cgroup: newCgroup(t), RootDir: testenv.OpenDir(t), Keyring: "held"}.Wrap()
	if err != nil {
		t.Fatal(err)
	}
	if err := setOOM("self", 321); err != nil {
		t.Fatal(err)
	}
	defer setOOM("self", 0)
	out := favoured(t, append([]string{wrapRole}, append(wrap, "/bin/sh", "-c", confess+self+" "+keyRole)...)...)
	got := facts(out)
	for fact, want := range map[string]string{"nice": "0", "policy": "0", "oom": "0", "slack": strconv.Itoa(TimerSlack), "personality": "00000000"} {
		if got[fact] != want {
			t.Errorf("%s is %q, want %q", fact, got[fact], want)
		}
	}
	if !strings.HasPrefix(got["ionice"], "none") || !strings.Contains(got["keyring"], ";migrate:held:") || !strings.Contains(got["keyring"], "finds false") {
		t.Errorf("got %v", got)
	}
}

func TestAVisitorHasAsMuchAsTheJobAndNoMore(t *testing.T) {
	t.Parallel()
	for name, edit := range map[string]func(*Config){"a user's": ownedBy(4242), "root's": nil, "in a user namespace": func(c *Config) { ownedBy(4242)(c); withUsers(c) }} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg, _ := configuration(t, "umask 027; echo 200 >/proc/self/oom_score_adj; touch "+IOMount+"/ready; exec sleep 1000")
			cfg.RootDir = testenv.OpenDir(t)
			cfg.Rlimits = []Rlimit{{unix.RLIMIT_NOFILE, 33, 44}, {unix.RLIMIT_CORE, 0, 0}, {unix.RLIMIT_NPROC, 555, 666}, {unix.RLIMIT_FSIZE, 1 << 30, 1 << 31}, {unix.RLIMIT_STACK, 1 << 20, 1 << 21}}
			if edit != nil {
				edit(&cfg)
			}
			c := newCgroup(t)
			pid := started(t, cfg, StartEnv{Cgroup: c})
			eventually(t, "the job is ready", func() bool { return exists(cfg.IODir, "ready") })
			var only unix.CPUSet
			if err := unix.SchedGetaffinity(0, &only); err != nil {
				t.Fatal(err)
			}
			for cpu := 0; only.Count() > 1; cpu++ {
				only.Clear(cpu)
			}
			if err := errors.Join(unix.SchedSetaffinity(pid, &only), unix.Setpriority(unix.PRIO_PROCESS, pid, 5)); err != nil {
				t.Fatal(err)
			}
			its, err := LimitsOf(pid)
			if err != nil {
				t.Fatal(err)
			}
			said := newLockedBuffer()
			v := ExecSpec{Init: pid, Args: []string{"sleep", "1000"}, Env: cfg.Env, WorkDir: "/", UID: cfg.UID, GID: cfg.GID, UserNS: cfg.User, Cgroup: c.Dirs, Stdout: said}
			ctx, cancel := context.WithCancel(context.Background())
			ended := make(chan struct{})
			go func() {
				defer close(ended)
				_, _ = Exec(ctx, v) // it is ended
			}()
			defer func() { cancel(); <-ended }()
			eventually(t, "the visitor sleeps", func() bool { return sleepers(t, v) == 1 })
			pids, err := c.Pids()
			if err != nil {
				t.Fatal(err)
			}
			visitor := pids[slices.IndexFunc(pids, func(p int) bool { // neither the job nor a stage that is ending
				comm, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", p))
				return p != pid && err == nil && string(comm) == "sleep\n"
			})]
			theirs, err := LimitsOf(visitor)
			if err != nil {
				t.Fatal(err)
			}
			byResource := func(a, b Rlimit) int { return a.Resource - b.Resource }
			slices.SortFunc(its, byResource)
			slices.SortFunc(theirs, byResource)
			if !slices.Equal(its, theirs) {
				t.Errorf("its limits are %v, the job's %v", theirs, its)
			}
			job, err := procfs.ReadStatus(pid)
			if err != nil {
				t.Fatal(err)
			}
			visit, err := procfs.ReadStatus(visitor)
			if err != nil {
				t.Fatal(err)
			}
			for _, field := range []string{"Umask", "CapBnd", "CapInh", "CapAmb", "CapPrm", "NoNewPrivs", "Cpus_allowed", "SigBlk", "SigIgn", "Uid", "Gid"} {
				if got, want := visit[field], job[field]; got != want || got == "" {
					t.Errorf("its %s is %q, the job's %q", field, got, want)
				}
			}
			for _, file := range []string{"oom_score_adj", "cgroup", "personality", "timerslack_ns"} {
				if got, want := readFile(t, "/proc/"+strconv.Itoa(visitor)+"/"+file), readFile(t, "/proc/"+strconv.Itoa(pid)+"/"+file); got != want {
					t.Errorf("its %s is %q, the job's %q", file, got, want)
				}
			}
			if raw, err := unix.Getpriority(unix.PRIO_PROCESS, visitor); err != nil || 20-raw != 5 {
				t.Errorf("its nice level is %d (%v), the job's 5", 20-raw, err)
			}
		})
	}
}

func TestAVisitorTakesNoOtherProcessForTheJobs(t *testing.T) {
	t.Parallel()
	mine, other := inhabited(t, 0), inhabited(t, 0)
	mine.Init, mine.Args = other.Init, []string{"true"} // as if the number had been given anew
	code, err := Exec(testenv.Bounded(t), mine)
	var start *StartError
	if !errors.As(err, &start) || !strings.Contains(err.Error(), "is none of the job's") {
		t.Errorf("got %d %v", code, err)
	}
}

func TestNothingOfAVisitorThatWeListenToIsInItsHands(t *testing.T) {
	t.Parallel()
	v := inhabited(t, 4242)
	var out lockedWriter
	v.Stdout, v.Args = &out, []string{"sh", "-c", "ls /proc/$$/fd"}
	if code, err := Exec(testenv.Bounded(t), v); code != 0 || err != nil || strings.Join(strings.Fields(out.text), " ") != "0 1 2" {
		t.Errorf("got %d %v: %s", code, err, out.text)
	}
}

type lockedWriter struct{ text string }

func (w *lockedWriter) Write(p []byte) (int, error) { w.text += string(p); return len(p), nil }
