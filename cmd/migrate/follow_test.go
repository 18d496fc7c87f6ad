package main

import (
	"context"
	"errors"
	"io"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/migrate-hpc/migrate/agent/api"
)

// following follows a's job in the background with short pauses.
func following(t *testing.T, a *fakeAgent) (out, errs *locked, news *locked, end func() (api.Job, error)) {
	t.Helper()
	out, errs, news = newLocked(), newLocked(), newLocked()
	f := newFollower(api.NewClient(a.socket), a.now(), map[string]io.Writer{"stdout": out, "stderr": errs},
		func(line string) { io.WriteString(news, line+"\n") })
	f.backoff = backoff{min: time.Millisecond, max: 4 * time.Millisecond}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	var j api.Job
	var err error
	done := make(chan struct{})
	go func() {
		defer close(done)
		j, err = f.follow(ctx)
	}()
	t.Cleanup(func() { cancel(); <-done })
	return out, errs, news, func() (api.Job, error) { <-done; return j, err }
}

func wantText(t *testing.T, what string, got *locked, want string) {
	t.Helper()
	if got.String() != want {
		t.Errorf("%s is %q, want %q", what, got, want)
	}
}

func TestFollowReadsOnAfterMovesAndReportsThem(t *testing.T) {
	a := newFakeAgent(t)
	out, errs, news, end := following(t, a)
	a.write("stdout", "one ")
	out.until(t, "one ")
	a.until("the follower", func() bool { return a.waiting > 0 })
	a.move("node-b")
	news.until(t, "moved")
	a.write("stdout", "two ")
	a.write("stderr", "oops")
	errs.until(t, "oops")
	a.move("node-c")
	a.write("stdout", "three")
	a.exit(7, 0)
	j, err := end()
	if err != nil || jobStatus(j) != 7 {
		t.Errorf("status %d, error %v", jobStatus(j), err)
	}
	wantText(t, "stdout", out, "one two three")
	wantText(t, "stderr", errs, "oops")
	wantText(t, "news", news, "job sim moved to node-b\njob sim moved to node-c\n")
}

func TestFollowSurvivesARestartOfTheAgent(t *testing.T) {
	a := newFakeAgent(t)
	out, _, news, end := following(t, a)
	a.write("stdout", "before ")
	out.until(t, "before ")
	a.stop()
	a.write("stdout", "between ")
	news.until(t, "the job is not affected")
	a.start()
	out.until(t, "between ")
	a.write("stdout", "after")
	a.exit(0, 9)
	j, err := end()
	if err != nil || jobStatus(j) != 137 {
		t.Errorf("status %d, error %v", jobStatus(j), err)
	}
	wantText(t, "stdout", out, "before between after")
	if n := strings.Count(news.String(), "not affected"); n != 1 {
		t.Errorf("the outage was told %d times", n)
	}
}

func TestFollowCopiesEveryByteOnceThoughRepliesAreCut(t *testing.T) {
	a := newFakeAgent(t)
	a.cut = 7
	text := strings.Repeat("0123456789", 20)
	a.write("stdout", text)
	a.exit(0, 0)
	out, _, _, end := following(t, a)
	if _, err := end(); err != nil {
		t.Fatal(err)
	}
	wantText(t, "stdout", out, text)
}

func TestFollowCopiesTheLastBytes(t *testing.T) {
	for range 20 {
		a := newFakeAgent(t)
		out, _, _, end := following(t, a)
		a.set(func() { a.output["stdout"] = []byte("last words"); a.refuse = 3 })
		a.exit(0, 0)
		if _, err := end(); err != nil {
			t.Fatal(err)
		}
		wantText(t, "stdout", out, "last words")
	}
}

func TestFollowEndsWhenItsOutputCannotBeWritten(t *testing.T) {
	a := newFakeAgent(t)
	a.write("stdout", "x")
	f := newFollower(api.NewClient(a.socket), a.now(), map[string]io.Writer{"stdout": broken{}}, func(string) {})
	if _, err := f.follow(t.Context()); !errors.Is(err, errTest) {
		t.Errorf("got %v", err)
	}
}

type broken struct{}

func (broken) Write([]byte) (int, error) { return 0, errTest }

func TestRunPassesSignalsOnAndReturnsTheJobsStatus(t *testing.T) {
	a := newFakeAgent(t)
	heard := uint64(1 << (syscall.SIGUSR1 - 1))
	a.job.Caught = &heard
	c, out, errs := newCLI(a)
	code := make(chan int)
	go func() { code <- c.execute(t.Context(), []string{"run", "--", "./solve"}) }()
	a.until("the job's start", func() bool { return a.request != nil })
	a.write("stdout", "hello\n")
	out.until(t, "hello")
	for _, sig := range []syscall.Signal{syscall.SIGUSR1, syscall.SIGTERM} {
		if err := syscall.Kill(os.Getpid(), sig); err != nil {
			t.Fatal(err)
		}
		a.until(sig.String(), func() bool { return len(a.signals) > 0 && a.signals[len(a.signals)-1] == int(sig) })
	}
	errs.until(t, "no handler")
	a.exit(0, 15)
	if got := <-code; got != 143 {
		t.Errorf("exit status %d", got)
	}
	if n := strings.Count(errs.String(), "no handler"); n != 1 || !strings.Contains(errs.String(), "drops SIGTERM") {
		t.Errorf("stderr is %q", errs)
	}
}

func TestRunRetriesASignalUntilASecondOneComes(t *testing.T) {
	a := newFakeAgent(t)
	signals := make(chan os.Signal, 2)
	f := signalForwarder{agent: api.NewClient(a.socket), job: a.now(), signals: signals, notify: func(string) {},
		backoff: backoff{min: time.Millisecond, max: time.Millisecond}}
	a.set(func() { a.refuse = 5 })
	signals <- syscall.SIGINT
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- f.run(ctx) }()
	a.until("the signal after the outage", func() bool { return len(a.signals) == 1 })
	a.set(func() { a.refuse = 1 << 30 })
	signals <- syscall.SIGINT
	signals <- syscall.SIGINT
	if err := <-done; exitCode(err) != api.ExitCancelled || !strings.Contains(err.Error(), "SIGINT") {
		t.Errorf("got %v", err)
	}
}

func TestRunOfASavedJobEndsWithTheWayBack(t *testing.T) {
	a := newFakeAgent(t)
	a.set(func() { a.job.State, a.job.SavedIn = api.JobSaved, "/scratch/sim" })
	c, _, errs := newCLI(a)
	if code := c.execute(t.Context(), []string{"run", "true"}); code != api.ExitFailed || !strings.Contains(errs.String(), "try: `migrate restore /scratch/sim`") {
		t.Errorf("exit status %d, %q", code, errs)
	}
}

func TestRunOfALostJobFails(t *testing.T) {
	a := newFakeAgent(t)
	a.set(func() { a.job.State = api.JobLost })
	c, _, errs := newCLI(a)
	if code := c.execute(t.Context(), []string{"run", "true"}); code != api.ExitFailed || !strings.Contains(errs.String(), "sim is lost: node node-a") {
		t.Errorf("exit status %d, %q", code, errs)
	}
}
