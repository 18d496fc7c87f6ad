package segments

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"testing"

	"github.com/migrate-hpc/migrate/carry"
	"github.com/migrate-hpc/migrate/pidmap"
	"github.com/migrate-hpc/migrate/stream"
	"github.com/migrate-hpc/migrate/testenv"
)

// sharer runs a Python script that shares memory in every way without a path, twice
// forked, and says when that is done.
func sharer(t *testing.T) []carry.Task {
	t.Helper()
	testenv.NeedRoot(t)
	python, err := exec.LookPath("python3")
	if err != nil {
		testenv.Missing(t, "python3 is not installed: apt-get install python3")
	}
	cmd := exec.Command(python, "-c", `import ctypes, mmap, os, tempfile, time
libc = ctypes.CDLL(None, use_errno=True)
libc.shmat.restype = ctypes.c_void_p
PAGE, N = 4096, 8
def fill(m, what):
    for i in range(N): m[i*PAGE:(i+1)*PAGE] = bytes([what, i]) * (PAGE // 2)
anon = mmap.mmap(-1, N * PAGE); fill(anon, 1)
fd = os.memfd_create("named"); os.ftruncate(fd, N * PAGE); mem = mmap.mmap(fd, N * PAGE); fill(mem, 2)
only = os.memfd_create("open only"); os.write(only, bytes([3, 0]) * (PAGE // 2))
seg = libc.shmget(0, N * PAGE, 0o600); at = libc.shmat(seg, None, 0); libc.shmctl(seg, 0, None)
fill((ctypes.c_char * (N * PAGE)).from_address(at), 4)
f = tempfile.TemporaryFile(dir="/dev/shm"); f.truncate(N * PAGE); gone = mmap.mmap(f.fileno(), N * PAGE); fill(gone, 5)
other = tempfile.TemporaryFile(dir="/var/tmp"); other.write(b"on a disk" * PAGE); other.flush()
os.fork()
os.write(1, b"%d\n" % os.getpid()) # at once: print may write a line and its end apart
time.sleep(1000)
`)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var tasks []carry.Task
	t.Cleanup(func() {
		for _, task := range tasks {
			if p, err := os.FindProcess(task.PID); err == nil {
				_ = p.Kill()
			}
		}
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	for i := range 2 {
		var pid int
		if _, err := fmt.Fscan(out, &pid); err != nil {
			t.Fatalf("share memory: %v", err)
		}
		began, err := pidmap.Began(pid)
		if err != nil {
			t.Fatal(err)
		}
		tasks = append(tasks, carry.Task{VPID: stream.VPID(i + 1), PID: pid, Began: began})
	}
	return tasks
}

// received reads the pages on a lane.
func received(t *testing.T, lane *bytes.Buffer) map[stream.Place][]byte {
	t.Helper()
	got := map[stream.Place][]byte{}
	for lane.Len() > 0 {
		s, err := stream.NewReader(lane)
		if err != nil || s.Kind() != stream.KindPages {
			t.Fatalf("stream of kind %d: %v", s.Kind(), err)
		}
		for {
			frame, err := s.ReadFrame()
			if err == io.EOF {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			err = stream.EachRun(frame, func(r stream.Run) error {
				for i := range int64(len(r.Data)) / stream.PageSize {
					got[stream.Place{VPID: r.VPID, Addr: r.Addr + uint64(i)*stream.PageSize}] = bytes.Clone(r.Data[i*stream.PageSize:][:stream.PageSize])
				}
				return nil
			})
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	return got
}

func TestSharedMemoryWithoutAPathIsSentOnceAndFoundAgain(t *testing.T) {
	tasks := sharer(t)
	s := NewSource(carry.Job{}).(*source)
	if !s.Empty() {
		t.Error("something is known before anything was sent")
	}
	var lane bytes.Buffer
	reused := slices.Clone(tasks) // others have the numbers by now
	for i := range reused {
		reused[i].Began--
	}
	if _, err := s.Warm(context.Background(), &lane, reused); err != nil || len(received(t, &lane)) > 0 {
		t.Errorf("memory of other processes was sent: %v", err)
	}
	round, err := s.Warm(context.Background(), &lane, tasks)
	if err != nil {
		t.Fatal(err)
	}
	const sent = 4*8 + 1 // pages
	got := received(t, &lane)
	if len(got) != sent || round.Looked != sent*stream.PageSize || round.Wire == 0 {
		t.Errorf("%d pages arrived, want %d: %+v", len(got), sent, round)
	}
	if round, err := s.Warm(context.Background(), &lane, tasks); err != nil || round.Changed != 0 {
		t.Errorf("nothing has changed, and %+v: %v", round, err)
	}
	for kind := 1; kind <= 5; kind++ {
		for i := range 8 {
			if kind == 3 && i > 0 {
				break
			}
			page := bytes.Repeat([]byte{byte(kind), byte(i)}, stream.PageSize/2)
			at, ok := s.FindPage(page)
			if !ok || !bytes.Equal(got[at], page) {
				t.Errorf("page %d of kind %d is at %+v (%v)", i, kind, at, ok)
			}
		}
	}
	if at, ok := s.FindPage(make([]byte, stream.PageSize)); ok {
		t.Errorf("a page that nobody has is at %+v", at)
	}
	if _, err := s.Warm(context.Background(), &lane, nil); err != nil {
		t.Error(err)
	}
	if !s.Empty() {
		t.Error("the target is asked for memory of tasks that are gone")
	}
}
