package namespaces

import (
	"context"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/migrate-hpc/migrate/namespaces/network"
	"github.com/migrate-hpc/migrate/osthread"
	"github.com/migrate-hpc/migrate/procfs"
	"github.com/migrate-hpc/migrate/testenv"
)

// introduce says what a job's command sees of itself, one fact a line.
const introduce = `
for k in user pid ipc net uts time mnt cgroup; do echo ns.$k $(readlink /proc/self/ns/$k); done
echo pid $$
echo session $(cut -d' ' -f6 /proc/$$/stat)
echo hostname $(cat /proc/sys/kernel/hostname)
echo cwd $(pwd -P)
grep -E '^(Uid|Gid|Groups|NoNewPrivs|CapEff):' /proc/$$/status | tr -s ':\t ' '  '
echo files $(grep 'Max open files' /proc/$$/limits | tr -s ' ' | cut -d' ' -f4,5)
echo core $(grep 'Max core' /proc/$$/limits | tr -s ' ' | cut -d' ' -f5,6)
for f in /proc/$$/fd/*; do [ -e $f ] && fds="$fds ${f##*/}"; done; echo fds $fds
echo env $(env | grep -v -E '^(PWD|OLDPWD|SHLVL|_)=' | sort)
echo mounts $(grep -c . /proc/$$/mounts)
`

func facts(out string) map[string]string {
	f := map[string]string{}
	for line := range strings.Lines(out) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), " ")
		f[name] = strings.TrimSpace(value)
	}
	return f
}

func TestAJobGetsWhatWasAskedForAndNothingOfItsStarter(t *testing.T) {
	t.Parallel()
	cfg, _ := configuration(t, introduce)
	cfg.UID, cfg.GID, cfg.Groups = 4242, 4343, []uint32{4343, 7, 9}
	cfg.Rlimits = []Rlimit{{unix.RLIMIT_NOFILE, 33, 44}, {unix.RLIMIT_CORE, 0, 0}}
	cfg.WorkDir = "/usr"
	cfg.Env = []string{"PATH=/usr/bin:/bin", "CLAIM=held"}
	c := newCgroup(t)
	left, err := os.Open("/") // a descriptor that a careless starter leaves open
	if err != nil {
		t.Fatal(err)
	}
	defer left.Close()
	unix.CloseOnExec(int(left.Fd()))
	ws, out := run(t, cfg, StartEnv{Cgroup: c})
	if !ws.Exited() || ws.ExitStatus() != 0 {
		t.Fatalf("it ended with %v\n%s", ws, readFile(t, filepath.Join(cfg.IODir, "stderr")))
	}
	got := facts(out)
	ours, err := Of(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range Kinds {
		if own := got["ns."+k] != ours[k]; own != (k != "user") || got["ns."+k] == "" {
			t.Errorf("its %s namespace is %s, ours %s", k, got["ns."+k], ours[k])
		}
	}
	for name, want := range map[string]string{
		"pid": "1", "session": "1", "hostname": "claims", "cwd": "/usr", "Uid": "4242 4242 4242 4242", "Gid": "4343 4343 4343 4343",
		"Groups": "7 9 4343", "NoNewPrivs": "1", "CapEff": "0000000000000000", "files": "33 44", "core": "0 0", "fds": "0 1 2",
		"env": "CLAIM=held PATH=/usr/bin:/bin",
	} {
		if got[name] != want {
			t.Errorf("%s is %q, want %q", name, got[name], want)
		}
	}
}

func TestAJobInAUserNamespaceIsItsOwnerAndNobodyElse(t *testing.T) {
	t.Parallel()
	cfg, io := configuration(t, introduce+"touch "+IOMount+"/mine; cat /proc/self/uid_map | tr -s ' ' >&2")
	const base = 1 << 30
	cfg.User = true
	cfg.UIDs, cfg.GIDs = PrivateMaps(base, 1000, 1000, nil)
	cfg.UID, cfg.GID = 1000, 1000
	cfg.RootDir = testenv.OpenDir(t)
	ws, out := run(t, cfg, StartEnv{})
	if ws.ExitStatus() != 0 {
		t.Fatalf("it ended with %v\n%s", ws, readFile(t, filepath.Join(io, "stderr")))
	}
	got, ours := facts(out), readlink(t, "/proc/self/ns/user")
	if got["ns.user"] == ours || got["Uid"] != "1000 1000 1000 1000" || got["fds"] != "0 1 2" {
		t.Errorf("got %v", got)
	}
	var st unix.Stat_t
	if err := unix.Stat(filepath.Join(io, "mine"), &st); err != nil || st.Uid != 1000 {
		t.Errorf("its file belongs to %d (%v)", st.Uid, err)
	}
	if m := readFile(t, filepath.Join(io, "stderr")); strings.Join(strings.Fields(m), " ") != "0 1073741824 1000 1000 1000 1 1001 1073742825 64535" {
		t.Errorf("its map is %q", m)
	}
}

func readlink(t testing.TB, path string) string {
	t.Helper()
	s, err := os.Readlink(path)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestAJobsMountsAreItsOwn(t *testing.T) {
	t.Parallel()
	source := t.TempDir()
	if err := os.WriteFile(filepath.Join(source, "here"), []byte("seen"), 0o644); err != nil {
		t.Fatal(err)
	}
	cfg, _ := configuration(t, `cat /tmp/deep/dir/here /tmp/file; echo; touch /tmp/deep/dir/x 2>/dev/null && echo written
		ls /tmp; ls /dev | tr '\n' ' '; echo $(ls -A /dev/shm /dev/mqueue); ls / | grep -c .; echo $(readlink /dev/ptmx)`)
	cfg.Mounts = []Mount{{Source: source, Target: "/tmp/deep/dir", ReadOnly: true}, {Source: filepath.Join(source, "here"), Target: "/tmp/file"}}
	_, out := run(t, cfg, StartEnv{})
	for _, want := range []string{"seenseen\n", "deep\nfile\n", "fd full job mqueue null ptmx pts random shm stderr stdin stdout tty urandom zero", "/dev/shm:", "pts/ptmx"} {
		if !strings.Contains(out, want) {
			t.Errorf("%q is missing in\n%s", want, out)
		}
	}
	if strings.Contains(out, "written") {
		t.Error("it wrote where it may only read")
	}
	table, err := procfs.MountTable(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range table {
		if strings.HasPrefix(m.Target, cfg.RootDir) {
			t.Errorf("we see its mount %s", m.Target)
		}
	}
	if left, err := os.ReadDir(cfg.RootDir); err != nil || len(left) > 0 {
		t.Errorf("the mount point holds %v (%v)", left, err)
	}
}

func TestStderrThatIsStdoutIsOneOpenFile(t *testing.T) {
	t.Parallel()
	cfg, _ := configuration(t, "echo one; echo two >&2; echo three")
	cfg.Stderr = cfg.Stdout
	if _, out := run(t, cfg, StartEnv{}); out != "one\ntwo\nthree\n" {
		t.Errorf("got %q", out)
	}
}

func TestOutputIsAppended(t *testing.T) {
	t.Parallel()
	cfg, io := configuration(t, "echo after")
	if err := os.WriteFile(filepath.Join(io, "stdout"), []byte("before\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, out := run(t, cfg, StartEnv{}); out != "before\nafter\n" {
		t.Errorf("got %q", out)
	}
}

func TestTheStatusOfAJobIsThatOfItsPID1(t *testing.T) {
	t.Parallel()
	cfg, _ := configuration(t, "exit 41")
	if ws, _ := run(t, cfg, StartEnv{}); ws.ExitStatus() != 41 {
		t.Errorf("got %v", ws)
	}
	cfg, _ = configuration(t, "exec sleep 60")
	pid := started(t, cfg, StartEnv{})
	if err := unix.Kill(pid, unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if ws, err := wait4(pid); err != nil || ws.Signal() != unix.SIGKILL {
		t.Errorf("got %v %v", ws, err)
	}
}

func TestTheNetworkIsGivenToTheJobBeforeItsCommandRuns(t *testing.T) {
	t.Parallel()
	cfg, _ := configuration(t, introduce)
	var given string
	_, out := run(t, cfg, StartEnv{Network: func(pid int) error {
		ns, err := Of(pid)
		given = ns["net"]
		return err
	}})
	if got := facts(out)["ns.net"]; got != given || got == "" {
		t.Errorf("the job is in %s, given was %s", got, given)
	}
}

// failures are all the steps at which a start can fail, and what the error has
// to name.
func failures() map[string]struct {
	spoil func(t *testing.T, cfg *Config, around *StartEnv)
	names string
} {
	type spoil = func(t *testing.T, cfg *Config, around *StartEnv)
	list := map[string]struct {
		spoil func(t *testing.T, cfg *Config, around *StartEnv)
		names string
	}{}
	add := func(name, names string, s spoil) {
		list[name] = struct {
			spoil func(t *testing.T, cfg *Config, around *StartEnv)
			names string
		}{s, names}
	}
	add("root missing", "/no/such/root", func(_ *testing.T, c *Config, _ *StartEnv) { c.Root = "/no/such/root" })
	add("mount point missing", "/no/such/dir", func(_ *testing.T, c *Config, _ *StartEnv) { c.RootDir = "/no/such/dir" })
	add("bind source missing", "/no/such/source", func(_ *testing.T, c *Config, _ *StartEnv) {
		c.Mounts = []Mount{{Source: "/no/such/source", Target: "/usr"}}
	})
	add("bind target missing", "/no/such/target", func(_ *testing.T, c *Config, _ *StartEnv) {
		c.Mounts = []Mount{{Source: "/usr", Target: "/no/such/target"}}
	})
	add("bind source in /tmp missing", "/no/such/source", func(_ *testing.T, c *Config, _ *StartEnv) {
		c.Mounts = []Mount{{Source: "/no/such/source", Target: "/tmp/x"}}
	})
	add("output directory missing", "/no/such/io", func(_ *testing.T, c *Config, _ *StartEnv) { c.IODir = "/no/such/io" })
	add("host name too long", "hostname", func(_ *testing.T, c *Config, _ *StartEnv) { c.Hostname = strings.Repeat("x", 65) })
	add("command missing", "/no/such/command", func(_ *testing.T, c *Config, _ *StartEnv) { c.Args = []string{"/no/such/command"} })
	add("command not along the path", "no-such-command", func(_ *testing.T, c *Config, _ *StartEnv) { c.Args = []string{"no-such-command"} })
	add("command is no program", "permission denied", func(_ *testing.T, c *Config, _ *StartEnv) { c.Args = []string{"/etc/passwd"} })
	add("work directory missing", "/no/such/dir", func(_ *testing.T, c *Config, _ *StartEnv) { c.WorkDir = "/no/such/dir" })
	add("stdin missing", "/no/such/stdin", func(_ *testing.T, c *Config, _ *StartEnv) { c.Stdin = "/no/such/stdin" })
	add("stdout not openable", "/no/such/stdout", func(_ *testing.T, c *Config, _ *StartEnv) { c.Stdout = "/no/such/stdout" })
	add("stderr not writable by its user", "/proc/sys/kernel/hostname", func(_ *testing.T, c *Config, _ *StartEnv) {
		c.UID, c.Stderr = 4242, "/proc/sys/kernel/hostname"
	})
	for name, set := range map[string]func(*Config, string){
		"stdin":  func(c *Config, path string) { c.Stdin = path },
		"stdout": func(c *Config, path string) { c.Stdout = path },
		"stderr": func(c *Config, path string) { c.Stderr = path },
	} {
		add(name+" a FIFO", IOMount+"/pipe: a FIFO cannot be", func(t *testing.T, c *Config, _ *StartEnv) {
			if err := unix.Mkfifo(filepath.Join(c.IODir, "pipe"), 0o666); err != nil {
				t.Fatal(err)
			}
			set(c, IOMount+"/pipe")
		})
	}
	add("limit upside down", "resource limit 7", func(_ *testing.T, c *Config, _ *StartEnv) {
		c.Rlimits = []Rlimit{{unix.RLIMIT_NOFILE, 9, 3}}
	})
	add("no such limit", "resource limit 99", func(_ *testing.T, c *Config, _ *StartEnv) { c.Rlimits = []Rlimit{{99, 0, 0}} })
	add("ids that cannot be mapped", "make namespaces", func(_ *testing.T, c *Config, _ *StartEnv) {
		c.User, c.UIDs = true, []IDMap{{Inside: 0, Outside: 1 << 30, Count: 0}}
	})
	add("user without an id", "set user", func(_ *testing.T, c *Config, _ *StartEnv) {
		c.User, c.UID = true, 5000
		c.UIDs, c.GIDs = []IDMap{{Inside: 0, Outside: 1 << 30, Count: 10}}, []IDMap{{Inside: 0, Outside: 1 << 30, Count: 10}}
		c.Stdout, c.Stderr = "/dev/null", "/dev/null"
	})
	add("cgroup gone", "enter cgroup", func(t *testing.T, _ *Config, a *StartEnv) {
		if err := a.Cgroup.Remove(); err != nil {
			t.Fatal(err)
		}
	})
	add("network refused", "no such bridge", func(_ *testing.T, _ *Config, a *StartEnv) {
		a.Network = func(int) error { return errors.New("no such bridge") }
	})
	add("bridge missing", "no-such-bridge", func(_ *testing.T, _ *Config, a *StartEnv) {
		a.Network = network.Interface{Name: "eth0", Host: "mgtest0", Bridge: "no-such-bridge"}.Connect
	})
	return list
}

func TestAStartThatFailsAtAnyStepNamesItAndLeavesNothing(t *testing.T) {
	testenv.NeedRoot(t)
	warm, _ := configuration(t, "exit 0") // what the runtime opens once, it opens here
	run(t, warm, StartEnv{})
	list := failures()
	for _, name := range slices.Sorted(maps.Keys(list)) {
		t.Run(name, func(t *testing.T) {
			cfg, _ := configuration(t, "exit 0")
			cfg.RootDir = testenv.OpenDir(t)
			c := newCgroup(t)
			around := StartEnv{Cgroup: c}
			list[name].spoil(t, &cfg, &around)
			before := tracesNow(t)
			inTime(t, func() {
				p, err := Start(testenv.Bounded(t), cfg, around)
				if err == nil {
					p.kill()
					t.Error("it started")
				} else if !strings.Contains(err.Error(), list[name].names) {
					t.Errorf("the error does not name %q: %v", list[name].names, err)
				}
			})
			if now := tracesNow(t); !now.equal(before) {
				t.Errorf("left behind: now %+v, before %+v", now, before)
			}
			if pids, err := c.Pids(); err != nil || len(pids) > 0 {
				t.Errorf("in the cgroup: %v %v", pids, err)
			}
			if err := c.Remove(); err != nil {
				t.Error(err)
			}
			if left, err := os.ReadDir(cfg.RootDir); err == nil && len(left) > 0 {
				t.Errorf("the mount point holds %v", left)
			}
		})
	}
}

func TestACancelledStartLeavesNothing(t *testing.T) {
	testenv.NeedRoot(t)
	cfg, _ := configuration(t, "exec sleep 60")
	why := errors.New("changed my mind")
	for range 5 {
		ctx, cancel := context.WithCancelCause(context.Background())
		around := StartEnv{Network: func(int) error {
			cancel(why)
			return nil
		}}
		before := tracesNow(t)
		inTime(t, func() {
			p, err := Start(ctx, cfg, around)
			if err == nil { // it was quicker
				p.kill()
			} else if !errors.Is(err, why) {
				t.Errorf("the reason is lost: %v", err)
			}
		})
		if now := tracesNow(t); !now.equal(before) {
			t.Fatalf("left behind: now %+v, before %+v", now, before)
		}
	}
}

func TestTheCommandIsFoundAsAShellInTheJobWould(t *testing.T) {
	dir := t.TempDir()
	for name, mode := range map[string]os.FileMode{"tool": 0o755, "data": 0o644} {
		if err := os.WriteFile(filepath.Join(dir, name), nil, mode); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(filepath.Join(dir, "sh"), 0o755); err != nil {
		t.Fatal(err)
	}
	env := []string{"PATH=/nowhere:" + dir + ":/bin"}
	for name, want := range map[string]string{
		"tool": filepath.Join(dir, "tool"), "./any": "./any", "/any": "/any", "sh": "/bin/sh", "data": "", "nosuch": "",
	} {
		got, err := lookCommand(name, env)
		if got != want || (err == nil) != (want != "") {
			t.Errorf("%s is %q (%v), want %q", name, got, err, want)
		}
	}
	if got, err := lookCommand("sh", nil); err != nil || got == "" {
		t.Errorf("without a PATH: %q %v", got, err)
	}
}

func TestTheFirstThreadIsNeverThrownAway(t *testing.T) {
	first := readlink(t, "/proc/self/ns/uts")
	testenv.NeedRoot(t)
	var group sync.WaitGroup
	for range 50 {
		group.Go(func() {
			err := osthread.Throwaway(func() error {
				if unix.Gettid() == os.Getpid() {
					return errors.New("this is the first thread")
				}
				return unix.Unshare(unix.CLONE_NEWUTS)
			})
			if err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
	if now := readlink(t, "/proc/self/ns/uts"); now != first {
		t.Errorf("the process is in %s, and was in %s", now, first)
	}
}
