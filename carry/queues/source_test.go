package queues

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/migrate-hpc/migrate/carry"
	"github.com/migrate-hpc/migrate/mqueue"
	"github.com/migrate-hpc/migrate/testenv"
)

// withQueues starts PID 1 of namespaces of its own, running a Python script that
// holds message queues.
func withQueues(t *testing.T, script string) *source {
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
	dir := t.TempDir()
	return &source{job: carry.Job{Init: testenv.Start(t, cmd), Dir: dir, Images: filepath.Join(dir, "images")}}
}

func TestOpenQueuesAreFoundOnceAndByName(t *testing.T) {
	s := withQueues(t, `a = queue("/a"); b = queue("/b"); os.dup(a)
if os.fork() == 0: time.sleep(1000)
f = open("/dev/mqueue/a")  # on the mount that CRIU can name`)
	queues, mount, err := openQueues(s.job.Init)
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
	if _, _, err := openQueues(s.job.Init); err == nil || !strings.Contains(err.Error(), "/gone") || !strings.Contains(err.Error(), "unlinked") {
		t.Errorf("got %v", err)
	}
}

func TestAJobThatHasAskedToBeNotifiedMeanwhileKeepsThat(t *testing.T) {
	s := withQueues(t, `sigevent = (ctypes.c_int * 16)(0, 0, 0, 1)  # SIGEV_NONE
assert libc.mq_notify(queue("/q"), sigevent) == 0`)
	var o *carry.Obstacle
	if _, err := s.Freeze(t.Context()); !errors.As(err, &o) || !strings.Contains(err.Error(), "/q") {
		t.Fatalf("got %v", err)
	}
	if text, err := os.ReadFile("../../docs/jobs.md"); err != nil || !strings.Contains(string(text), "`"+o.Code+"`") { // as all codes of the preflight
		t.Errorf("no document explains %s (%v)", o.Code, err)
	}
	if name, err := mqueue.Notified(s.job.Init); name != "q" || err != nil {
		t.Errorf("it waits for %q (%v)", name, err)
	}
}

func TestMessagesThatAnAgentHadTakenOutWhenItDiedAreBackAtTheThaw(t *testing.T) {
	s := withQueues(t, "")
	q := mqueue.Queue{Name: "q", Mode: 0o600, MaxMessages: 4, MessageSize: 8, Messages: []mqueue.Message{{Data: []byte("one")}, {Data: []byte("two")}}}
	cut := q
	cut.Messages = q.Messages[:1]
	if err := errors.Join(mqueue.Make(s.job.Init, []mqueue.Queue{cut}), s.record(q)); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := s.Thaw(); err != nil {
			t.Fatal(err)
		}
		saved, err := mqueue.Save(s.job.Init, nil)
		if err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(saved, []mqueue.Queue{q}) {
			t.Errorf("got %+v", saved)
		}
	}
	if _, err := os.Stat(s.recordFile()); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("it would be put back again: %v", err)
	}
}

func TestAJobWithoutQueuesHasNone(t *testing.T) {
	s := withQueues(t, "")
	if queues, _, err := openQueues(s.job.Init); err != nil || len(queues) > 0 {
		t.Errorf("got %v %v", queues, err)
	}
	if err := os.Mkdir(s.job.Images, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := s.save(); err != nil {
		t.Fatal(err)
	}
	if left, err := os.ReadDir(s.job.Images); err != nil || len(left) > 0 {
		t.Errorf("saved: %v %v", left, err)
	}
	s.job.Init = 1 << 30
	if _, _, err := openQueues(s.job.Init); err == nil {
		t.Error("a job that is gone has queues")
	}
	if err := s.FixImages(); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(filepath.Join(s.job.Images, "files.img")); err == nil {
		t.Error("an image was written")
	}
}
