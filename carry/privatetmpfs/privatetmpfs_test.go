package privatetmpfs

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/migrate-hpc/migrate/carry"
	"github.com/migrate-hpc/migrate/stream"
	"github.com/migrate-hpc/migrate/testenv"
)

func TestWhatTheSourceSendsStageByStageTheTargetBuilds(t *testing.T) {
	testenv.NeedRoot(t)
	cmd := exec.Command("sh", "-ec", "mount --make-rprivate /; umount -Rl /dev; while umount -l /tmp 2>&-; do :; done; mount -t tmpfs none /tmp; cd /tmp; echo before >a; echo ready; read line; echo after >>a; mv a b; read line")
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: unix.CLONE_NEWTIME,
		Cloneflags: unix.CLONE_NEWNS | unix.CLONE_NEWPID | unix.CLONE_NEWIPC | unix.CLONE_NEWUTS | unix.CLONE_NEWNET | unix.CLONE_NEWCGROUP}
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	init := testenv.Start(t, cmd)
	s, ctx := NewSource(carry.Job{Init: init}), testenv.Bounded(t)
	var lane bytes.Buffer
	round, err := s.Warm(ctx, &lane, nil)
	if err != nil || round.Looked != int64(len("before\n")) || round.Changed == 0 || round.Wire == 0 {
		t.Fatalf("%+v, %v", round, err)
	}
	if _, err := io.WriteString(in, "\n"); err != nil {
		t.Fatal(err)
	}
	testenv.Eventually(t, func() bool {
		_, err := os.Stat(fmt.Sprintf("/proc/%d/root/tmp/b", init))
		return err == nil
	})
	external, err := s.Freeze(ctx)
	if err == nil {
		_, err = s.LastRound(ctx, &lane)
	}
	if err = errors.Join(err, s.Snapshot(ctx), s.FixImages(), s.Send(&lane), s.Close()); err != nil || external != nil {
		t.Fatalf("%v, %v", external, err)
	}
	r := NewReceiver()
	for lane.Len() > 0 {
		in, err := stream.NewReader(&lane)
		if err != nil || !slices.Contains(r.Kinds(), in.Kind()) {
			t.Fatalf("a stream of kind %d, %v", in.Kind(), err)
		}
		if err := r.Read(in, func(int) {}); err != nil {
			t.Fatal(err)
		}
	}
	if err := r.Complete(); err != nil {
		t.Fatal(err)
	}
	fd, err := unix.Openat(int(r.Mounts()["/tmp"].Fd()), "b", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	f := os.NewFile(uintptr(fd), "b")
	defer f.Close()
	if data, err := io.ReadAll(f); string(data) != "before\nafter\n" {
		t.Errorf("%q, %v", data, err)
	}
	for range 2 {
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	}
}
