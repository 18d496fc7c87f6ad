package preflight

import (
	"bytes"
	"context"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/migrate-hpc/migrate/job"
	"github.com/migrate-hpc/migrate/namespaces"
	"github.com/migrate-hpc/migrate/namespaces/cgroup"
	"github.com/migrate-hpc/migrate/procfs"
	"github.com/migrate-hpc/migrate/testenv"
)

func TestAJobWithoutItsMainThreadIsRefused(t *testing.T) {
	j := start(t, "no-leader", nil)
	eventually(t, "the main thread has ended", func() bool {
		status, err := procfs.ReadStatus(j.init)
		return err == nil && status["State"][0] == 'Z'
	})
	_, findings := j.look(t)
	wantCodes(t, findings, LeaderGone)
}

// serve has a socket in a directory of the node and hands each caller to talk.
func serve(t *testing.T, talk func(*net.UnixConn)) func(*namespaces.Config, *job.Spec) {
	return func(cfg *namespaces.Config, _ *job.Spec) {
		l, err := net.Listen("unix", filepath.Join(cfg.WorkDir, "service"))
		if err != nil {
			t.Fatal(err)
		}
		var conns []net.Conn
		var done sync.WaitGroup
		done.Go(func() {
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				conns = append(conns, c)
				talk(c.(*net.UnixConn))
			}
		})
		t.Cleanup(func() {
			_ = l.Close()
			done.Wait()
			for _, c := range conns {
				_ = c.Close()
			}
		})
	}
}

func TestASocketToAProcessOfTheNodeIsRefused(t *testing.T) {
	j := start(t, "connected", serve(t, func(*net.UnixConn) {}))
	_, findings := j.look(t)
	wantCodes(t, findings, SocketOutside)
}

func TestAFIFOToAProcessOfTheNodeIsRefused(t *testing.T) {
	j := start(t, "fifo", nil)
	_, findings := j.look(t)
	wantCodes(t, findings)
	other, err := os.OpenFile(filepath.Join(j.dir, "fifo"), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	_, findings = j.look(t)
	if err := other.Close(); err != nil {
		t.Fatal(err)
	}
	wantCodes(t, findings, FIFOOutside)
	if text := findings[0].Cause; !strings.Contains(text, "fifo") || !strings.Contains(text, strconv.Itoa(os.Getpid())) {
		t.Errorf("it says %s", text)
	}
}

func TestAFileFromOutsideIsRefused(t *testing.T) {
	j := start(t, "given", serve(t, func(c *net.UnixConn) {
		f, err := os.Open("/proc/version") // of the node's proc
		if err != nil {
			t.Error(err)
			return
		}
		defer f.Close()
		if _, _, err := c.WriteMsgUnix([]byte{0}, unix.UnixRights(int(f.Fd())), nil); err != nil {
			t.Error(err)
		}
	}))
	_, findings := j.look(t)
	wantCodes(t, findings, FileOutside)
}

func TestATracedJobIsRefused(t *testing.T) {
	j := start(t, "clean", nil)
	attached, end, ended := make(chan error), make(chan struct{}), make(chan struct{})
	go func() { // the tracer is a thread, and lets go when it ends
		defer close(ended)
		runtime.LockOSThread()
		attached <- unix.PtraceSeize(j.init)
		<-end
	}()
	if err := <-attached; err != nil {
		close(end)
		testenv.Missing(t, "ptrace: %v", err)
	}
	_, findings := j.look(t)
	close(end)
	<-ended
	wantCodes(t, findings, Traced)
}

func TestATaskOutsideOfTheCgroupIsRefused(t *testing.T) {
	j := start(t, "clean", nil)
	here, err := cgroup.Of(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	if err := cgroup.Join(j.init, here); err != nil {
		t.Fatal(err)
	}
	_, findings := j.look(t)
	wantCodes(t, findings, OutsideCgroup)
}

func TestAStrangerInTheCgroupIsRefused(t *testing.T) {
	j := start(t, "clean", nil)
	stranger := exec.Command("sleep", "1000")
	if err := stranger.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = stranger.Process.Kill()
		_ = stranger.Wait()
	}()
	if err := j.cg.Enter(stranger.Process.Pid); err != nil {
		t.Fatal(err)
	}
	_, findings := j.look(t)
	wantCodes(t, findings, OutsideNamespace)
}

func TestAVisitorIsToldOfOnce(t *testing.T) {
	j := start(t, "clean", nil)
	ctx, leave := context.WithCancel(testenv.Bounded(t))
	var visit sync.WaitGroup
	defer visit.Wait()
	defer leave()
	var out lockedBuffer
	visit.Go(func() {
		_, _ = namespaces.Exec(ctx, namespaces.ExecSpec{Init: j.init, Args: []string{"sh", "-c", "echo in; exec sleep 1000"},
			WorkDir: "/", Cgroup: j.cg.Dirs, Stdout: &out, Stderr: &out})
	})
	eventually(t, "the visitor is in", func() bool { return out.has("in\n") })
	_, findings := j.look(t)
	if !slices.ContainsFunc(findings, func(f Finding) bool { return f.Code == VisitorInside }) {
		t.Errorf("no %s in %+v", VisitorInside, findings)
	}
	for _, f := range findings {
		if f.Code == OutsideNamespace || f.Code == OutsideCgroup {
			t.Errorf("the visitor counts twice: %+v", f)
		}
	}
}

type lockedBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *lockedBuffer) has(s string) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return bytes.Contains(b.buf.Bytes(), []byte(s))
}

func TestNeedsNameTheFilesThatTheTargetMustHave(t *testing.T) {
	j := start(t, "clean", nil)
	n, _ := j.look(t)
	find := func(name string) File {
		i := slices.IndexFunc(n.Files, func(f File) bool { return f.Path == filepath.Join(j.dir, name) })
		if i < 0 {
			t.Fatalf("%s is not among %+v", name, n.Files)
		}
		return n.Files[i]
	}
	if f := find("input"); f.Size != 12 || f.Mode != unix.S_IFREG|0o604 || f.Written || f.Inode == 0 {
		t.Errorf("the input is %+v", f)
	}
	if f := find("log"); f.Size != -1 || !f.Written {
		t.Errorf("the log, which is only appended to, is %+v", f)
	}
	if f := find("output"); f.Size != 0 || !f.Written {
		t.Errorf("the output is %+v", f)
	}
	if f := find("program"); f.Size <= 0 || f.Written {
		t.Errorf("the program is %+v", f)
	}
	if f := find(""); f.Mode&unix.S_IFMT != unix.S_IFDIR || f.Size != -1 {
		t.Errorf("the working directory is %+v", f)
	}
	for _, f := range n.Files {
		if within(f.Path, "/dev") || within(f.Path, "/proc") || f.Path == "/tmp/scratch" {
			t.Errorf("%s lives on a mount of the job's own", f.Path)
		}
	}
	if n.WorkDir != j.dir || len(n.Mounts) != 1 || n.Mounts[0].Path != j.dir || !n.Mounts[0].Dir || n.Mounts[0].Type == "" {
		t.Errorf("work directory %q, mounts %+v", n.WorkDir, n.Mounts)
	}
}

func TestNeedsCountEachKindOfMemory(t *testing.T) {
	j := start(t, "memory", nil)
	n, findings := j.look(t)
	wantCodes(t, findings)
	clean := start(t, "clean", nil)
	program, _ := clean.look(t) // the same without that memory
	const all, some = privateSize + sharedSize + tmpfsSize, tmpfsSize / 2
	if more := n.Memory - program.Memory; more < all-some || more > all+some+shadow {
		t.Errorf("%d bytes more than the program's %d, want %d", more, program.Memory, all)
	}
}

func TestProcessesThatComeAndGoAreNoStrangers(t *testing.T) {
	j := start(t, "clean", nil)
	ctx, stop := context.WithCancel(testenv.Bounded(t))
	var churn sync.WaitGroup
	churn.Go(func() {
		for ctx.Err() == nil {
			cmd := exec.Command("true")
			cmd.SysProcAttr = &unix.SysProcAttr{}
			if cmd.Start() == nil {
				_ = os.WriteFile(filepath.Join(j.cg.FreezerDir(), "cgroup.procs"), []byte(strconv.Itoa(cmd.Process.Pid)), 0)
				_ = cmd.Wait()
			}
		}
	})
	for range 20 {
		_, findings := j.look(t)
		wantCodes(t, findings)
	}
	stop()
	churn.Wait()
}
