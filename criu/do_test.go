package criu

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/checkpoint-restore/go-criu/v7/rpc"
	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/proto"

	"github.com/migrate-hpc/migrate/testenv"
)

var errRefused = errors.New("refused by the test")

// refuseAt refuses one notification.
func refuseAt(stage string) func(context.Context, string, int) error {
	return func(_ context.Context, name string, _ int) error {
		if name == stage {
			return errRefused
		}
		return nil
	}
}

func TestRealCRIUTellsItsVersion(t *testing.T) {
	v, err := realCRIU(t).Version(testenv.Bounded(t))
	if err != nil {
		t.Fatal(err)
	}
	if !v.AtLeast(Version{4, 1, 0}) {
		t.Errorf("CRIU %v is installed, at least 4.1 is needed", v)
	}
}

func TestARequestOfOneMebibyteReachesCRIU(t *testing.T) {
	req := &rpc.CriuReq{
		Type: rpc.CriuReqType_VERSION.Enum(),
		Opts: &rpc.CriuOpts{ImagesDirFd: proto.Int32(-1), External: slices.Repeat([]string{strings.Repeat("x", 1023)}, 1024)},
	}
	resp, err := realCRIU(t).Do(testenv.Bounded(t), req, Run{})
	if err != nil || resp.GetVersion() == nil {
		t.Fatalf("got %v, %v", resp, err)
	}
}

// restoreRequest asks for the restore of what is in dir, under a new bind of
// the node's tree, with the result as a child of this process.
func restoreRequest(t testing.TB, dir string) (req *rpc.CriuReq, log string) {
	t.Helper()
	return &rpc.CriuReq{
		Type: rpc.CriuReqType_RESTORE.Enum(),
		Opts: &rpc.CriuOpts{
			ImagesDirFd:       proto.Int32(int32(openDir(t, dir).Fd())),
			Root:              proto.String(bindRoot(t)),
			RstSibling:        proto.Bool(true),
			LogFile:           proto.String("restore.log"),
			ManageCgroupsMode: rpc.CriuCgMode_IGNORE.Enum(),
			NetworkLock:       rpc.CriuNetworkLockMethod_SKIP.Enum(),
		},
	}, filepath.Join(dir, "restore.log")
}

// dumped dumps a small job as a whole and kills it.
func dumped(t testing.TB, c *Client) (dir string) {
	t.Helper()
	j := startJob(t, 4)
	j.cgroup.freeze(t)
	req, dir, log := dumpRequest(t, j)
	if _, err := c.Do(testenv.Bounded(t), req, Run{LogFile: log}); err != nil {
		t.Fatalf("%v\n%q", err, asError(t, err).Lines)
	}
	return dir
}

func TestRestoreTellsThePIDAtPostRestoreAndInTheReply(t *testing.T) {
	c := realCRIU(t)
	req, log := restoreRequest(t, dumped(t, c))
	parked := 0
	resp, err := c.Do(testenv.Bounded(t), req, Run{LogFile: log, Notify: func(_ context.Context, name string, pid int) error {
		if name == "post-restore" {
			parked = pid
		}
		return nil
	}})
	if err != nil {
		t.Fatalf("%v\n%q", err, asError(t, err).Lines)
	}
	pid := int(resp.GetRestore().GetPid())
	if pid == 0 || pid != parked {
		t.Errorf("post-restore told pid %d, the reply %d", parked, pid)
	}
	if err := unix.Kill(pid, unix.SIGKILL); err != nil {
		t.Errorf("the restored job does not run: %v", err)
	}
	if _, err := unix.Wait4(pid, nil, 0, nil); err != nil {
		t.Errorf("the restored job is no child of the caller: %v", err)
	}
}

func TestARefusedPostRestoreKillsWhatWasRestored(t *testing.T) {
	c := realCRIU(t)
	req, log := restoreRequest(t, dumped(t, c))
	parked := 0
	_, err := c.Do(testenv.Bounded(t), req, Run{LogFile: log, Notify: func(ctx context.Context, name string, pid int) error {
		if name == "post-restore" {
			parked = pid
		}
		return refuseAt("post-restore")(ctx, name, pid)
	}})
	if !errors.Is(err, errRefused) {
		t.Fatalf("got %v, want the refusal", err)
	}
	gone(t, parked)
}

func TestACancelledParkedRestoreIsKilledByCRIUItself(t *testing.T) {
	c := realCRIU(t)
	req, log := restoreRequest(t, dumped(t, c))
	ctx, cancel := context.WithCancelCause(testenv.Bounded(t))
	parked := 0
	start := time.Now()
	_, err := c.Do(ctx, req, Run{LogFile: log, Notify: func(ctx context.Context, name string, pid int) error {
		if name == "post-restore" {
			parked = pid
			cancel(errRefused)
			<-ctx.Done()
		}
		return ctx.Err()
	}})
	if !errors.Is(err, errRefused) {
		t.Fatalf("got %v, want the cause of the cancellation", err)
	}
	if took := time.Since(start); took > defaultGrace {
		t.Errorf("it took %v", took)
	}
	gone(t, parked)
}

// gone checks that a process has ended or waits to be reaped by us.
func gone(t testing.TB, pid int) {
	t.Helper()
	if pid == 0 {
		t.Fatal("it was never restored")
	}
	eventually(t, "restored job is dead", func() bool {
		_, err := unix.Wait4(pid, nil, unix.WNOHANG, nil)
		return errors.Is(err, unix.ECHILD) && errors.Is(unix.Kill(pid, 0), unix.ESRCH)
	})
}

func TestARefusedOrCancelledDumpLeavesTheJobWhole(t *testing.T) {
	c, j := realCRIU(t), startJob(t, 4)
	for _, stage := range []string{"pre-dump", "post-dump"} {
		j.cgroup.freeze(t)
		req, _, log := dumpRequest(t, j)
		if _, err := c.DumpLazy(testenv.Bounded(t), req, Run{LogFile: log, Notify: refuseAt(stage)}); !errors.Is(err, errRefused) {
			t.Errorf("refused at %s: got %v", stage, err)
		}
		ctx, cancel := context.WithCancelCause(testenv.Bounded(t))
		req, _, log = dumpRequest(t, j)
		_, err := c.DumpLazy(ctx, req, Run{LogFile: log, Notify: func(_ context.Context, name string, _ int) error {
			if name == stage {
				cancel(errRefused)
			}
			return nil
		}})
		if !errors.Is(err, errRefused) {
			t.Errorf("cancelled at %s: got %v", stage, err)
		}
		j.cgroup.thaw(t)
		alive(t, j)
	}
}

// alive checks that nobody traces the job and that it still gets processor
// time.
func alive(t testing.TB, j testJob) {
	t.Helper()
	if s := procField(t, j.pid, "TracerPid:"); s != "0" {
		t.Errorf("process %s still traces the job", s)
	}
	before := procField(t, j.pid, "voluntary_ctxt_switches:")
	eventually(t, "job runs on", func() bool {
		return procField(t, j.pid, "voluntary_ctxt_switches:") != before
	})
}

func procField(t testing.TB, pid int, key string) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("/proc", itoa(pid), "status"))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(data)) {
		if value, ok := strings.CutPrefix(line, key); ok {
			return strings.TrimSpace(value)
		}
	}
	t.Fatalf("no %s in the status of %d", key, pid)
	return ""
}

// impostor is a client for a script that is started instead of CRIU.
func impostor(t testing.TB, script string) *Client {
	t.Helper()
	path := filepath.Join(t.TempDir(), "criu")
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"+script), 0o700); err != nil {
		t.Fatal(err)
	}
	return New(path, "", quiet())
}

func TestAnEndWithoutAReplyQuotesWhatWasSaid(t *testing.T) {
	c := impostor(t, "echo libsomething.so is missing >&2; exit 127")
	_, err := c.Version(testenv.Bounded(t))
	if !errors.Is(err, ErrVanished) || !strings.Contains(err.Error(), "libsomething.so is missing") || !strings.Contains(err.Error(), "127") {
		t.Errorf("got %v", err)
	}
}

func TestAStuckRestoreIsKilledAndAStuckDumpIsReported(t *testing.T) {
	c := impostor(t, "exec sleep 600")
	for _, kind := range []rpc.CriuReqType{rpc.CriuReqType_RESTORE, rpc.CriuReqType_DUMP} {
		ctx, cancel := context.WithCancelCause(testenv.Bounded(t))
		cancelled := make(chan struct{})
		var pid int
		_, err := c.Do(ctx, &rpc.CriuReq{Type: kind.Enum()}, Run{Grace: 10 * time.Millisecond, Started: func(p int) error {
			pid = p
			cancel(errRefused)
			close(cancelled)
			return nil
		}})
		<-cancelled
		if !errors.Is(err, errRefused) {
			t.Errorf("%v: got %v, want the cause", kind, err)
		}
		var stuck *StuckError
		if errors.As(err, &stuck) != isDump(kind) {
			t.Errorf("%v: got %v", kind, err)
		}
		if !isDump(kind) {
			continue
		}
		if stuck.PID != pid || unix.Kill(pid, unix.SIGKILL) != nil {
			t.Errorf("the stuck dump is %d, the error says %d", pid, stuck.PID)
		}
		eventually(t, "stuck dump is reaped", func() bool { return errors.Is(unix.Kill(pid, 0), unix.ESRCH) })
	}
}

func TestAMissingCRIUIsAnErrorThatSaysSo(t *testing.T) {
	_, err := New(filepath.Join(t.TempDir(), "criu"), "", quiet()).Version(testenv.Bounded(t))
	if !errors.Is(err, fs.ErrNotExist) || asError(t, err).Op != "version" {
		t.Errorf("got %v", err)
	}
}

func TestNoRequestIsSentToACRIUThatCouldNotBeNoted(t *testing.T) {
	said := filepath.Join(t.TempDir(), "request")
	c := impostor(t, "exec cat <&3 >"+said)
	_, err := c.Do(testenv.Bounded(t), &rpc.CriuReq{Type: rpc.CriuReqType_DUMP.Enum()}, Run{Started: func(int) error { return errRefused }})
	if !errors.Is(err, errRefused) {
		t.Errorf("got %v", err)
	}
	if got, err := os.ReadFile(said); err != nil || len(got) > 0 {
		t.Errorf("it was asked for %q, %v", got, err)
	}
}
