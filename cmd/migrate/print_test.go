package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/spf13/cobra"

	"github.com/migrate-hpc/migrate/agent/api"
	"github.com/migrate-hpc/migrate/job"
	"github.com/migrate-hpc/migrate/pidmap"
	"github.com/migrate-hpc/migrate/testenv"
)

func at(minute int) time.Time { return time.Date(2026, 3, 1, 11, minute, 0, 5e6, time.UTC) }

func exampleJob() api.Job {
	return api.Job{
		Record: job.Record{
			ID: "jk4m2q7x5zb", Epoch: 2, Created: at(5),
			Spec: job.Spec{Name: "sim", Args: []string{"./solve", "-n", "8", "a b"}, UID: 1000, GID: 100, WorkDir: "/home/ada", Stdout: "/home/ada/out",
				Limits: job.Limits{MemoryBytes: 2 << 30, CPUMilli: 1500}, Network: job.Network{Mode: "br0", Address: "10.0.0.7/24"}},
			Placements: []job.Placement{{Node: "node-a", From: at(5), To: at(20), Epoch: 0}, {Node: "node-b", From: at(20), Epoch: 2}},
		},
		Node: "node-b", State: api.JobRunning, Init: 4711, Shim: 4700, CPU: 83 * time.Second, Memory: 3 << 29, Filled: 1 << 29, Total: 3 << 29,
		CgroupDir: "/sys/fs/cgroup/migrate/jk4m2q7x5zb",
		Pids: []pidmap.Entry{
			{Host: 4711, Job: 1, Comm: "solve", State: 'S', Threads: []pidmap.Thread{{Host: 4711, Job: 1}, {Host: 4712, Job: 2}}},
			{Host: 4720, Job: 9, PPid: 4711, Comm: "od\x1b[2Jd", State: 'R', Threads: []pidmap.Thread{{Host: 4720, Job: 9}}},
		},
		Namespaces: map[string]string{"pid": "pid:[4026532001]", "net": "net:[4026532002]"},
		Clocks:     &api.Clocks{Monotonic: 40 * time.Minute, Boottime: 41 * time.Minute, MonotonicOffset: -3 * time.Hour, BoottimeOffset: 5 * time.Second},
	}
}

func TestPsPrintsOneLinePerJob(t *testing.T) {
	moved, dead, killed := exampleJob(), exampleJob(), exampleJob()
	moved.State, moved.MovedTo = api.JobMoved, &job.Moved{Node: "node-c"}
	dead.State, dead.Exit, dead.Spec.Name = api.JobExited, &job.Exit{Code: 3}, ""
	dead.Spec.Args = []string{"sh", "-c", "echo a very long command line\nwith a line break in the midst of it"}
	killed.State, killed.Exit, killed.Created = api.JobExited, &job.Exit{Signal: 9}, at(-4000)
	var b bytes.Buffer
	if err := printJobs(&b, []api.Job{exampleJob(), moved, dead, killed}, at(59)); err != nil {
		t.Fatal(err)
	}
	testenv.Golden(t, "ps.txt", b.Bytes())
}

func TestInspectEscapesTheNamesOfAJob(t *testing.T) {
	var b bytes.Buffer
	if err := printJob(&b, exampleJob()); err != nil {
		t.Fatal(err)
	}
	testenv.Golden(t, "inspect.txt", b.Bytes())
}

func TestInspectOfAnEndedJobShowsWhatIsKnown(t *testing.T) {
	var b bytes.Buffer
	j := api.Job{Record: job.Record{ID: "jk4m2q7x5zb", Created: at(5), Exit: &job.Exit{Code: 1, At: at(6)}}, Node: "node-a", State: api.JobExited}
	if err := printJob(&b, j); err != nil {
		t.Fatal(err)
	}
	testenv.Golden(t, "inspect-exited.txt", b.Bytes())
}

func TestErrorsSayWhatWhereAndWhatToTypeNext(t *testing.T) {
	cmd := &cobra.Command{Use: "move JOB NODE"}
	var b bytes.Buffer
	for _, err := range []error{
		&api.Error{Code: api.CodeRefused, Message: "node-b cannot take job sim", Where: "runs on node-a, untouched", Hint: "migrate check sim --to node-b",
			Findings: []api.Finding{{Code: "file-differs", Cause: "/usr/lib/libm.so.6 has another build-id on node-b", Remedy: "install the same version there"}, {Code: "no-remedy", Cause: "cause"}}},
		fmt.Errorf("wrapped: %w", &api.Error{Code: api.CodeFailed, Message: "only a message"}),
		usage(cmd, errors.New("move takes JOB NODE, and got 1")),
		errors.New("anything else"),
		context.Canceled,
		exitStatus(3),
	} {
		printFailure(&b, err)
		b.WriteByte('\n')
	}
	testenv.Golden(t, "errors.txt", b.Bytes())
}

func TestExitStatuses(t *testing.T) {
	for want, err := range map[int]error{
		0:   nil,
		1:   errors.New("plain"),
		2:   usage(&cobra.Command{}, errors.New("x")),
		3:   &api.Error{Code: api.CodeRefused},
		4:   fmt.Errorf("move: %w", &api.Error{Code: api.CodeAborted}),
		5:   &api.Error{Code: api.CodeInDoubt},
		6:   &api.Error{Code: api.CodeCleanupLeft},
		77:  exitStatus(77),
		130: fmt.Errorf("wait: %w", context.Canceled),
		143: errors.Join(exitStatus(143)),
	} {
		if got := exitCode(err); got != want {
			t.Errorf("%v: %d, want %d", err, got, want)
		}
	}
}

func TestFormatOfSizesAndSpansIsShort(t *testing.T) {
	for want, n := range map[string]int64{"0 B": 0, "1023 B": 1023, "1.0 KiB": 1024, "1.0 MiB": 1<<20 - 1, "2.5 GiB": 5 << 29, "8.0 EiB": 1<<63 - 1} {
		if got := size(n); got != want {
			t.Errorf("%d: %s, want %s", n, got, want)
		}
	}
	for want, d := range map[string]time.Duration{"1.2 ms": 1234 * time.Microsecond, "212 ms": 212 * time.Millisecond, "1.0 s": 999600 * time.Microsecond, "3.1 s": 3100 * time.Millisecond, "4m10s": 250 * time.Second} {
		if got := span(d); got != want {
			t.Errorf("%d: %s, want %s", d, got, want)
		}
	}
}
