package cgroup

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/migrate-hpc/migrate/testenv"
)

func itoa(n int) string { return strconv.Itoa(n) }

// runIn starts a shell script in the cgroup and returns its pid. The script is reaped when it
// ends.
func runIn(t testing.TB, c *Cgroup, script string) int {
	t.Helper()
	cmd := exec.Command("sh", "-c", "read go; "+script)
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	reaped := make(chan struct{})
	go func() {
		_ = cmd.Wait() // by a signal, in most tests
		close(reaped)
	}()
	t.Cleanup(func() {
		if err := c.Thaw(testenv.Bounded(t)); err != nil {
			t.Error(err)
		}
		_ = cmd.Process.Kill()
		<-reaped
	})
	if err := c.Enter(cmd.Process.Pid); err != nil {
		t.Fatal(err)
	}
	if _, err := in.Write([]byte("\n")); err != nil {
		t.Fatal(err)
	}
	return cmd.Process.Pid
}

// eachVersion runs a test with a cgroup of each version that the node has.
func eachVersion(t *testing.T, test func(t *testing.T, c *Cgroup)) {
	t.Run("as jobs get it", func(t *testing.T) { test(t, newCgroup(t)) })
	t.Run("version 2", func(t *testing.T) { test(t, unifiedCgroup(t)) })
}

func wantFrozen(t *testing.T, c *Cgroup, want bool) {
	t.Helper()
	if got, err := c.Frozen(); err != nil || got != want {
		t.Fatalf("frozen: %v %v, want %v", got, err, want)
	}
}

func size(t testing.TB, path string) int64 {
	t.Helper()
	st, err := os.Stat(path)
	if errors.Is(err, os.ErrNotExist) {
		return 0
	}
	if err != nil {
		t.Fatal(err)
	}
	return st.Size()
}

func TestFreezingAndThawingTwiceIsDoingItOnce(t *testing.T) {
	eachVersion(t, func(t *testing.T, c *Cgroup) {
		out := filepath.Join(t.TempDir(), "out")
		runIn(t, c, "while :; do echo x >>"+out+"; done")
		eventually(t, "the task writes", func() bool { return size(t, out) > 0 })
		for range 2 {
			if err := c.Freeze(testenv.Bounded(t)); err != nil {
				t.Fatal(err)
			}
			wantFrozen(t, c, true)
		}
		stood := size(t, out)
		//house:allow time.Sleep: time in which a task could write that is not frozen
		time.Sleep(20 * time.Millisecond)
		if now := size(t, out); now != stood {
			t.Fatalf("a frozen task wrote: %d, then %d bytes", stood, now)
		}
		for range 2 {
			if err := c.Thaw(testenv.Bounded(t)); err != nil {
				t.Fatal(err)
			}
			wantFrozen(t, c, false)
		}
		eventually(t, "the task writes again", func() bool { return size(t, out) > stood })
	})
}

func TestAKilledFrozenTaskNeverRunsAgain(t *testing.T) {
	eachVersion(t, func(t *testing.T, c *Cgroup) {
		dir := t.TempDir()
		var outs []string
		for i := range 12 {
			out := filepath.Join(dir, itoa(i))
			outs = append(outs, out)
			runIn(t, c, "trap 'echo woke >>"+out+"' TERM EXIT CONT; while :; do echo x >>"+out+"; done")
		}
		for _, out := range outs {
			eventually(t, "the tasks write", func() bool { return size(t, out) > 0 })
		}
		if err := c.Freeze(testenv.Bounded(t)); err != nil {
			t.Fatal(err)
		}
		var stood []int64
		for _, out := range outs {
			stood = append(stood, size(t, out))
		}
		for range 2 {
			if err := c.Kill(testenv.Bounded(t)); err != nil {
				t.Fatal(err)
			}
		}
		if pids, err := c.Pids(); err != nil || len(pids) > 0 {
			t.Errorf("still there: %v %v", pids, err)
		}
		for i, out := range outs {
			if now := size(t, out); now != stood[i] {
				t.Errorf("task %d ran again: it had written %d bytes, now %d", i, stood[i], now)
			}
		}
	})
}

func TestKillReachesTasksThatForkMeanwhile(t *testing.T) {
	eachVersion(t, func(t *testing.T, c *Cgroup) {
		runIn(t, c, "while :; do sleep 1000 & sleep 0.001; done")
		eventually(t, "it has forked", func() bool {
			pids, err := c.Pids()
			return err == nil && len(pids) > 5
		})
		if err := c.Kill(testenv.Bounded(t)); err != nil {
			t.Fatal(err)
		}
		if pids, err := c.Pids(); err != nil || len(pids) > 0 {
			t.Errorf("still there: %v %v", pids, err)
		}
	})
}

func TestAnEmptyCgroupIsFrozenThawedAndKilledWithoutTrouble(t *testing.T) {
	eachVersion(t, func(t *testing.T, c *Cgroup) {
		ctx := testenv.Bounded(t)
		if err := errors.Join(c.Thaw(ctx), c.Kill(ctx), c.Freeze(ctx)); err != nil {
			t.Fatal(err)
		}
		wantFrozen(t, c, true)
		if err := errors.Join(c.Kill(ctx), c.Thaw(ctx)); err != nil {
			t.Fatal(err)
		}
	})
}

func TestTheEndOfTheContextIsTheReasonWhyAKillGaveUp(t *testing.T) {
	c := newCgroup(t)
	runIn(t, c, "exec sleep 60")
	why := errors.New("no patience")
	ctx, cancel := context.WithCancelCause(context.Background())
	cancel(why)
	// A killed task may take its time, so either answer is right.
	if err := c.Kill(ctx); err != nil && !errors.Is(err, why) {
		t.Errorf("got %v", err)
	}
}

func TestAFreezeThatNeverComesAboutEndsWithTheContext(t *testing.T) {
	c := fakeCgroup(t, "freezer") // a file that holds what is written, but not for long
	state := filepath.Join(c.FreezerDir(), "freezer.state")
	if err := os.Symlink("/dev/null", state); err != nil {
		t.Fatal(err)
	}
	why := errors.New("no patience")
	ctx, cancel := context.WithTimeoutCause(context.Background(), 20*time.Millisecond, why)
	defer cancel()
	if err := c.Freeze(ctx); !errors.Is(err, why) {
		t.Errorf("got %v", err)
	}
}
