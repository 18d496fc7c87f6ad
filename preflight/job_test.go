package preflight

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/migrate-hpc/migrate/criu"
	"github.com/migrate-hpc/migrate/job"
	"github.com/migrate-hpc/migrate/namespaces"
	"github.com/migrate-hpc/migrate/namespaces/cgroup"
	"github.com/migrate-hpc/migrate/testenv"
)

// running is a real job.
type running struct {
	rec  job.Record
	init int
	cg   *cgroup.Cgroup
	dir  string // of the node, bound into the job under the same path
}

// start runs a role as a job until the test ends.
func start(t *testing.T, role string, change func(*namespaces.Config, *job.Spec)) running {
	t.Helper()
	testenv.NeedRoot(t)
	j := running{dir: t.TempDir()}
	if err := os.WriteFile(filepath.Join(j.dir, "input"), []byte("twelve bytes"), 0o604); err != nil {
		t.Fatal(err)
	}
	self := filepath.Join(j.dir, "program")
	copyProgram(t, self)
	for dir, mode := range map[string]os.FileMode{filepath.Dir(j.dir): 0o755, j.dir: 0o777} {
		if err := os.Chmod(dir, mode); err != nil {
			t.Fatal(err)
		}
	}
	io := t.TempDir()
	if err := os.Chmod(io, 0o777); err != nil {
		t.Fatal(err)
	}
	j.rec = job.Record{ID: job.NewID(), Spec: job.Spec{
		Args: []string{self, roleArg, role, j.dir}, WorkDir: j.dir, Binds: []job.Bind{{Source: j.dir, Target: j.dir}},
	}}
	cfg := namespaces.Config{
		Hostname: "job", RootDir: t.TempDir(), Root: "/", IODir: io, WorkDir: j.dir, Args: j.rec.Spec.Args,
		Env:   []string{"PATH=/usr/bin:/bin", "GODEBUG=multipathtcp=0"},
		Stdin: "/dev/null", Stdout: namespaces.IOMount + "/stdout", Stderr: namespaces.IOMount + "/stdout",
		Mounts: []namespaces.Mount{{Source: j.dir, Target: j.dir}},
	}
	if change != nil {
		change(&cfg, &j.rec.Spec)
	}
	j.launch(t, cfg)
	j.awaitReady(t, filepath.Join(io, "stdout"))
	return j
}

// copyProgram puts this binary where a job of another user can reach it.
func copyProgram(t *testing.T, to string) {
	t.Helper()
	data, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(to, data, 0o755); err != nil {
		t.Fatal(err)
	}
}

func (j *running) launch(t *testing.T, cfg namespaces.Config) {
	t.Helper()
	var err error
	if j.cg, err = cgroup.New(os.Getpid(), "migrate-test-"+string(j.rec.ID)); err != nil {
		testenv.Missing(t, "no cgroup can be made: %v", err)
	}
	p, err := namespaces.Start(testenv.Bounded(t), cfg, namespaces.StartEnv{Cgroup: j.cg})
	if err != nil {
		t.Fatal(errors.Join(err, j.cg.Remove()))
	}
	j.init = p.Pid
	t.Cleanup(func() {
		_ = unix.Kill(j.init, unix.SIGKILL)
		var ws unix.WaitStatus
		for {
			if _, err := unix.Wait4(j.init, &ws, 0, nil); err != unix.EINTR {
				break
			}
		}
		eventually(t, "cgroup removed", func() bool { return j.cg.Remove() == nil })
	})
}

func (j *running) awaitReady(t *testing.T, out string) {
	t.Helper()
	var said []byte
	eventually(t, "the job is ready", func() bool {
		said, _ = os.ReadFile(out)
		return bytes.Contains(said, []byte("\n"))
	})
	if !bytes.HasPrefix(said, []byte("ready")) {
		testenv.Missing(t, "this kernel does not let the job play its role: %s", said)
	}
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); !ok(); {
		if time.Now().After(end) {
			t.Fatalf("not within a minute: %s", what)
		}
		<-time.After(5 * time.Millisecond)
	}
}

// look is preflight without CRIU, whose absence is not told of.
func (j *running) look(t *testing.T) (Needs, []Finding) {
	t.Helper()
	l, err := CheckJob(testenv.Bounded(t), j.rec, j.init, j.cg, nil)
	if err != nil {
		t.Fatal(err)
	}
	return l.Needs, slices.DeleteFunc(l.Findings, func(f Finding) bool { return f.Code == CRIUMissing })
}

func wantCodes(t *testing.T, findings []Finding, want ...Code) {
	t.Helper()
	var got []Code
	for _, f := range findings {
		if !slices.Contains(got, f.Code) {
			got = append(got, f.Code)
		}
		if f.Cause == "" || f.Remedy == "" || strings.Contains(f.Cause+f.Remedy, "%!") {
			t.Errorf("a finding that does not explain itself: %+v", f)
		}
	}
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		var all strings.Builder
		for _, f := range findings {
			fmt.Fprintf(&all, "\n%s: %s\n  → %s", f.Code, f.Cause, f.Remedy)
		}
		t.Errorf("codes %v, want %v:%s", got, want, all.String())
	} else if testing.Verbose() {
		for _, f := range findings {
			t.Logf("%s: %s → %s", f.Code, f.Cause, f.Remedy)
		}
	}
}

func TestWhatAJobHoldsIsJudged(t *testing.T) {
	for role, want := range map[string][]Code{
		"clean":       nil,
		"deleted":     nil,
		"device":      {DeviceOpen},
		"io-uring":    {IOUring},
		"perf":        {PerfEvent},
		"bpf":         {BPF},
		"userfaultfd": {Userfaultfd},
		"big-deleted": {DeletedTooBig},
		"renamed":     {NameGone},
		"replaced":    {NameGone}, // so the kernel tells of it
		"lease":       {LeaseHeld},
		"lease-read":  {LeaseHeld},
		"lease-own":   nil, // arrives with its file system
		"huge-pages":  {HugePages},
		"secret":      {SecretMemory},
		"vsock":       {SocketKind},
		"mptcp":       {SocketKind},
		"nested":      {NestedNamespace},
		"thread":      {NestedNamespace},
		"child-alone": {LeaderGone},
		"overlay":     {MountUnsupported},
	} {
		t.Run(role, func(t *testing.T) {
			t.Parallel()
			j := start(t, role, nil)
			_, findings := j.look(t)
			wantCodes(t, findings, want...)
		})
	}
}

func TestAJobInAUserNamespaceIsFoundClean(t *testing.T) {
	j := start(t, "clean", func(cfg *namespaces.Config, s *job.Spec) {
		cfg.User = true
		cfg.UIDs, cfg.GIDs = namespaces.PrivateMaps(1<<30, 0, 0, nil)
		s.UserNS, s.UIDBase = true, 1<<30
	})
	n, findings := j.look(t)
	wantCodes(t, findings)
	if !n.UserNS || n.UIDBase != 1<<30 {
		t.Errorf("the needs name no range of ids: %+v", n)
	}
}

func TestAnotherUsersJobNeedsTheRightToReadItsLimits(t *testing.T) {
	j := start(t, "clean", func(cfg *namespaces.Config, s *job.Spec) {
		cfg.UID, cfg.GID, s.UID, s.GID = 12345, 12345, 12345, 12345
	})
	self, err := readSelf()
	if err != nil {
		t.Fatal(err)
	}
	_, findings := j.look(t)
	if self.CapSysResource {
		wantCodes(t, findings)
	} else {
		wantCodes(t, findings, RlimitsHidden)
	}
}

func TestTheRealCRIUSuitsThisKernel(t *testing.T) {
	path, err := criu.Find("")
	if err != nil {
		testenv.Missing(t, "%v", err)
	}
	j := start(t, "clean", nil)
	client := criu.New(path, t.TempDir(), slog.New(slog.DiscardHandler))
	l, err := CheckJob(testenv.Bounded(t), j.rec, j.init, j.cg, client)
	if err != nil {
		t.Fatal(err)
	}
	n := l.Needs
	wantCodes(t, l.Findings)
	if n.CRIU == "" || n.Kernel == "" || n.Arch == "" {
		t.Errorf("the needs lack versions: %+v", n)
	}
	here, err := CheckNode(testenv.Bounded(t), n, j.rec, Node{CRIU: client, MemoryDir: "/dev/shm"})
	if err != nil {
		t.Fatal(err)
	}
	wantCodes(t, here)
}
