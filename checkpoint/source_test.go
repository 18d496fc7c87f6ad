package checkpoint

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/migrate-hpc/migrate/mqueue"
	"github.com/migrate-hpc/migrate/namespaces/cgroup"
	"github.com/migrate-hpc/migrate/testenv"
)

// frozenScene is a process in a cgroup of its own.
func frozenScene(t *testing.T) *Source {
	t.Helper()
	testenv.NeedRoot(t)
	cg, err := cgroup.New(os.Getpid(), fmt.Sprintf("migrate-test-source-%d", os.Getpid()))
	if err != nil {
		testenv.Missing(t, "no cgroup can be made: %v", err)
	}
	cmd := exec.Command("sleep", "1000")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWPID}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	reaped := make(chan error, 1)
	go func() { reaped <- cmd.Wait() }()
	t.Cleanup(func() {
		if err := cg.Kill(testenv.Bounded(t)); err != nil {
			t.Error(err)
		}
		<-reaped
		if err := cg.Remove(); err != nil {
			t.Error(err)
		}
	})
	if err := cg.Enter(cmd.Process.Pid); err != nil {
		t.Fatal(err)
	}
	return &Source{Init: cmd.Process.Pid, Cgroup: cg, Dir: t.TempDir(), IODir: t.TempDir(), Log: quiet()}
}

func TestNoJobIsFrozenWithAVisitorThatIsOnItsWayIn(t *testing.T) {
	s, ctx := frozenScene(t), testenv.Bounded(t)
	visitor := exec.Command("sleep", "1000")
	if err := visitor.Start(); err != nil {
		t.Fatal(err)
	}
	if err := s.Cgroup.Enter(visitor.Process.Pid); err != nil {
		t.Fatal(err)
	}
	if err := s.Freeze(ctx); !errors.Is(err, ErrExecRunning) || !strings.Contains(err.Error(), fmt.Sprint(visitor.Process.Pid)) {
		t.Errorf("freeze: %v", err)
	}
	if err := errors.Join(s.Thaw(ctx), visitor.Process.Kill()); err != nil {
		t.Fatal(err)
	}
	// It stays a zombie until it is waited for.
	if err := s.Freeze(ctx); err != nil {
		t.Error(err)
	}
	if err := s.Thaw(ctx); err != nil {
		t.Error(err)
	}
	_ = visitor.Wait() // it was killed
}

func TestAProcessThatHasTheNumberOfAJobThatEndedIsNotFrozenForIt(t *testing.T) {
	s, ctx := frozenScene(t), testenv.Bounded(t)
	other := exec.Command("sleep", "1000")
	other.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWPID}
	if err := other.Start(); err != nil {
		t.Fatal(err)
	}
	s.Init = other.Process.Pid
	if err := s.Freeze(ctx); err == nil || !strings.Contains(err.Error(), "the job has ended") {
		t.Errorf("freeze: %v", err)
	}
	if err := errors.Join(s.Thaw(ctx), other.Process.Kill()); err != nil {
		t.Fatal(err)
	}
	_ = other.Wait() // killed
}

func TestAJobIsAskedForStoppedProcessesOfItsOwn(t *testing.T) {
	s, ctx := frozenScene(t), testenv.Bounded(t)
	other := exec.Command("sleep", "1000") // of the node, none of the job
	if err := other.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _, _ = other.Process.Kill(), other.Wait() }()
	for _, pid := range []int{other.Process.Pid, s.Init} {
		if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
			t.Fatal(err)
		}
	}
	var want []int
	if !s.Cgroup.CanDumpStopped() {
		want = []int{s.Init}
	}
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) { // a stop takes a moment
		by, err := FindSuspension(s.Cgroup)
		if err != nil {
			t.Fatal(err)
		}
		if by == nil && want == nil || by != nil && slices.Equal(by.Stopped, want) {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("suspended by %+v, not by stops of %v", by, want)
		}
	}
	if err := syscall.Kill(s.Init, syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	if err := s.Freeze(ctx); err != nil {
		t.Error(err)
	}
	if err := s.Thaw(ctx); err != nil {
		t.Error(err)
	}
}

func TestFreezeReadsTheClocksAndThawUndoesIt(t *testing.T) {
	s, ctx := frozenScene(t), testenv.Bounded(t)
	if err := s.StillFrozen(ctx); err == nil || !strings.Contains(err.Error(), "thawed") {
		t.Errorf("a running job passes for frozen: %v", err)
	}
	for range 2 {
		before := s.Clock()
		if err := s.Freeze(ctx); err != nil {
			t.Fatal(err)
		}
		if now := s.Clock(); now.Mono <= before.Mono || now.Boot <= before.Boot || now.Real <= before.Real {
			t.Errorf("clocks %+v after %+v", now, before)
		}
		if err := s.StillFrozen(ctx); err != nil {
			t.Error(err)
		}
	}
	for range 2 {
		if err := s.Thaw(ctx); err != nil {
			t.Fatal(err)
		}
		if err := s.StillFrozen(ctx); err == nil {
			t.Error("it is still frozen")
		}
	}
}

func TestADumpWithoutCRIUsWorkIsAnErrorBeforeAnythingIsSent(t *testing.T) {
	s := frozenScene(t)
	if _, err := s.Send(testenv.Bounded(t), nil); err == nil {
		t.Error("a job that was never dumped was sent")
	}
}

func TestExternalMountsAreNamedInOrder(t *testing.T) {
	s := &Source{External: map[string]string{"/z": "z", "/a": "key", "/dev/job": "/dev/job"}}
	if got := s.external(); !slices.Equal(got, []string{"mnt[/a]:key", "mnt[/dev/job]:/dev/job", "mnt[/z]:z"}) {
		t.Errorf("got %v", got)
	}
}

// withQueues starts PID 1 of namespaces of its own, running a Python script that
// holds message queues.
func withQueues(t *testing.T, script string) *Source {
	t.Helper()
	testenv.NeedRoot(t)
	python, err := exec.LookPath("python3")
	if err != nil {
		testenv.Missing(t, "python3 is not installed: apt-get install python3")
	}
	cmd := exec.Command("sh", "-c", "mount --make-rprivate / && mount -t proc proc /proc && mkdir -p /dev/mqueue && mount -t mqueue mqueue /dev/mqueue && exec "+python+" -c \"$0\"",
		`import ctypes, os, time
libc = ctypes.CDLL(None, use_errno=True)
def queue(name):
    fd = libc.mq_open(name.encode(), os.O_RDWR | os.O_CREAT, 0o600, None)
    assert fd >= 0, os.strerror(ctypes.get_errno())
    return fd
`+script+`
print("ready", flush=True)
time.sleep(1000)
`)
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWIPC | unix.CLONE_NEWNS | unix.CLONE_NEWPID}
	return &Source{Init: testenv.Start(t, cmd), Dir: t.TempDir(), Log: quiet()}
}

func TestOpenQueuesAreFoundOnceAndByName(t *testing.T) {
	s := withQueues(t, `a = queue("/a"); b = queue("/b"); os.dup(a)
if os.fork() == 0: time.sleep(1000)
f = open("/dev/mqueue/a")  # on the mount that CRIU can name`)
	queues, mount, err := s.openQueues()
	if err != nil {
		t.Fatal(err)
	}
	var paths []string
	for _, q := range queues {
		paths = append(paths, q.path)
		if !strings.HasPrefix(q.key, "file[") {
			t.Errorf("CRIU would not know %+v", q)
		}
	}
	slices.Sort(paths)
	if !slices.Equal(paths, []string{"/dev/mqueue/a", "/dev/mqueue/b"}) || mount == "" {
		t.Errorf("got %v on mount %q", paths, mount)
	}
}

func TestAQueueThatWasUnlinkedIsToldByName(t *testing.T) {
	s := withQueues(t, `queue("/gone"); libc.mq_unlink(b"/gone")`)
	if _, _, err := s.openQueues(); err == nil || !strings.Contains(err.Error(), "/gone") || !strings.Contains(err.Error(), "unlinked") {
		t.Errorf("got %v", err)
	}
}

func TestAJobThatHasAskedToBeNotifiedMeanwhileKeepsThat(t *testing.T) {
	s := withQueues(t, `sigevent = (ctypes.c_int * 16)(0, 0, 0, 1)  # SIGEV_NONE
assert libc.mq_notify(queue("/q"), sigevent) == 0`)
	if _, _, err := s.queues(); !errors.Is(err, mqueue.ErrNotify) || !strings.Contains(err.Error(), "/q") {
		t.Errorf("got %v", err)
	}
	if name, err := mqueue.Notified(s.Init); name != "q" || err != nil {
		t.Errorf("it waits for %q (%v)", name, err)
	}
}

func TestMessagesThatAnAgentHadTakenOutWhenItDiedAreBackAtTheThaw(t *testing.T) {
	s := withQueues(t, "")
	q := mqueue.Queue{Name: "q", Mode: 0o600, MaxMessages: 4, MessageSize: 8, Messages: []mqueue.Message{{Data: []byte("one")}, {Data: []byte("two")}}}
	cut := q
	cut.Messages = q.Messages[:1]
	if err := errors.Join(mqueue.Make(s.Init, []mqueue.Queue{cut}), s.recordQueue(q)); err != nil {
		t.Fatal(err)
	}
	s.Cgroup = &cgroup.Cgroup{}
	for range 2 {
		if err := s.Thaw(testenv.Bounded(t)); err != nil {
			t.Fatal(err)
		}
		saved, err := mqueue.Save(s.Init, nil)
		if err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(saved, []mqueue.Queue{q}) {
			t.Errorf("got %+v", saved)
		}
	}
	if _, err := os.Stat(s.queueFile()); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("it would be put back again: %v", err)
	}
}

func TestAJobWithoutQueuesHasNone(t *testing.T) {
	s := withQueues(t, "")
	if queues, _, err := s.openQueues(); err != nil || len(queues) > 0 {
		t.Errorf("got %v %v", queues, err)
	}
	if err := os.Mkdir(s.Images(), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := s.saveQueues(); err != nil {
		t.Fatal(err)
	}
	if left, err := os.ReadDir(s.Images()); err != nil || len(left) > 0 {
		t.Errorf("saved: %v %v", left, err)
	}
	s.Init = 1 << 30
	if _, _, err := s.openQueues(); err == nil {
		t.Error("a job that is gone has queues")
	}
	if err := s.nameQueues(nil, ""); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(filepath.Join(s.Images(), "files.img")); err == nil {
		t.Error("an image was written")
	}
}
