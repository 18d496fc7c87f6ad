package criu

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/checkpoint-restore/go-criu/v7/rpc"
	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/proto"

	"github.com/migrate-hpc/migrate/criu/image"
	"github.com/migrate-hpc/migrate/stream"
	"github.com/migrate-hpc/migrate/testenv"
)

// dumpRequest asks for a dump of a job into a new directory.
func dumpRequest(t testing.TB, j testJob) (req *rpc.CriuReq, dir, log string) {
	t.Helper()
	dir = testenv.MemoryDir(t)
	return &rpc.CriuReq{
		Type: rpc.CriuReqType_DUMP.Enum(),
		Opts: &rpc.CriuOpts{
			ImagesDirFd:       proto.Int32(int32(openDir(t, dir).Fd())),
			Pid:               proto.Int32(int32(j.pid)),
			FreezeCgroup:      proto.String(j.cgroup.dir),
			LogLevel:          proto.Int32(2),
			LogFile:           proto.String("dump.log"),
			ManageCgroupsMode: rpc.CriuCgMode_IGNORE.Enum(),
			LeaveRunning:      proto.Bool(true),
			NetworkLock:       rpc.CriuNetworkLockMethod_SKIP.Enum(),
		},
	}, dir, filepath.Join(dir, "dump.log")
}

func TestLazyDumpWritesTheImagesEndsByItselfAndLeavesTheJobFrozen(t *testing.T) {
	c, j := realCRIU(t), startJob(t, 256)
	eventually(t, "the job is frozen where CRIU 4.2 tells its stacks from its memory", func() bool {
		j.cgroup.thaw(t)
		j.cgroup.freeze(t)
		return !hasAlignedStack(t, j.pid)
	})
	req, dir, log := dumpRequest(t, j)
	var pid int
	result, err := c.DumpLazy(testenv.Bounded(t), req, Run{
		LogFile: log,
		Started: func(p int) error { pid = p; return nil },
		Notify: func(_ context.Context, name string, _ int) error {
			if name == "status-ready" && listens(t, pid) {
				t.Error("CRIU listens on a port")
			}
			return nil
		},
	})
	if err != nil {
		t.Fatalf("%v\n%q", err, asError(t, err).Lines)
	}
	t.Logf("lazy dump of 256 MiB took %v", result.Took)
	if !errors.Is(unix.Kill(pid, 0), unix.ESRCH) {
		t.Error("CRIU did not end")
	}
	if !j.cgroup.isFrozen(t) {
		t.Error("the job runs after the dump")
	}
	regions, err := image.Pagemaps(dir)
	if err != nil {
		t.Fatal(err)
	}
	var lazy int64
	for _, r := range regions[1] {
		if r.Lazy && !r.Present {
			lazy += r.Pages
		}
	}
	if lazy < 256<<20/stream.PageSize {
		t.Errorf("%d pages are lazy, the job filled %d", lazy, 256<<20/stream.PageSize)
	}
}

// hasAlignedStack says whether a thread's stack ends at the start of a page, for which
// CRIU 4.2 takes every page of the process for its stack.
func hasAlignedStack(t testing.TB, pid int) bool {
	t.Helper()
	threads, err := filepath.Glob("/proc/" + itoa(pid) + "/task/*/syscall")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range threads {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		f := strings.Fields(string(text))
		if len(f) >= 2 && strings.HasSuffix(f[len(f)-2], "000") {
			return true
		}
	}
	return false
}

// listens says whether a process has a listening TCP socket.
func listens(t testing.TB, pid int) bool {
	t.Helper()
	proc := "/proc/" + itoa(pid)
	listening := make(map[string]bool)
	for _, table := range []string{"/net/tcp", "/net/tcp6"} {
		data, err := os.ReadFile(proc + table)
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(data)) {
			if f := strings.Fields(line); len(f) > 9 && f[3] == "0A" {
				listening["socket:["+f[9]+"]"] = true
			}
		}
	}
	fds, err := os.ReadDir(proc + "/fd")
	if err != nil {
		t.Fatal(err)
	}
	for _, fd := range fds {
		if link, err := os.Readlink(proc + "/fd/" + fd.Name()); err == nil && listening[link] {
			return true
		}
	}
	return false
}

func TestLazyDumpInsistsOnAFrozenCgroupAndAFreeConfiguration(t *testing.T) {
	c := impostor(t, "exit 1")
	for name, req := range map[string]*rpc.CriuReq{
		"no dump":       {Type: rpc.CriuReqType_RESTORE.Enum(), Opts: &rpc.CriuOpts{FreezeCgroup: proto.String("/x")}},
		"no cgroup":     {Type: rpc.CriuReqType_DUMP.Enum(), Opts: &rpc.CriuOpts{}},
		"configuration": {Type: rpc.CriuReqType_DUMP.Enum(), Opts: &rpc.CriuOpts{FreezeCgroup: proto.String("/x"), ConfigFile: proto.String("/y")}},
	} {
		if _, err := c.DumpLazy(testenv.Bounded(t), req, Run{}); err == nil || errors.Is(err, ErrVanished) {
			t.Errorf("%s: got %v", name, err)
		}
	}
}
