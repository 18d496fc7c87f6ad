package oracle

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/migrate-hpc/migrate/testenv"
)

var breakerRoles = []string{"random", "aligned", "forks", "remap", "discard", "huge", "threads", "userfaultfd"}

// breaker starts one and waits until it has looked at all of its memory.
func breaker(t *testing.T, role string) (*job, BreakerReport) {
	t.Helper()
	path, err := BuildBreaker(t.Context())
	wantBuilt(t, err)
	j := &job{cmd: exec.Command(path, role, "--seconds", "60")}
	j.cmd.Stdout, j.cmd.Stderr = &j.out, &j.err
	j.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := j.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if j.cmd.ProcessState == nil {
			_ = j.cmd.Process.Kill()
			_ = j.cmd.Wait()
		}
	})
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		r, err := JudgeBreaker(j.out.String())
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(j.err.String(), "cannot set up: userfaultfd") {
			testenv.Missing(t, "%s", j.err.String())
		}
		if r.Oks >= 2 {
			return j, r
		}
	}
	t.Fatalf("it never looked at all of its memory: %s %s", j.out.String(), j.err.String())
	return nil, BreakerReport{}
}

func TestABreakerFindsItsMemoryRightAndEndsOnRequest(t *testing.T) {
	for _, role := range breakerRoles {
		t.Run(role, func(t *testing.T) {
			j, _ := breaker(t, role)
			if err := j.cmd.Process.Signal(syscall.SIGTERM); err != nil {
				t.Fatal(err)
			}
			if code := j.exit(t); code != 0 {
				t.Errorf("exit code %d, want 0: %s", code, j.err.String())
			}
			if r, err := JudgeBreaker(j.out.String()); err != nil || !r.Bye {
				t.Errorf("%+v, %v", r, err)
			}
		})
	}
}

func TestABreakerNoticesOneWrongBitAndOneLostPage(t *testing.T) {
	for _, role := range breakerRoles {
		for name, damage := range map[string]func([]byte){"bit": func(p []byte) { p[1000] ^= 4 }, "page": func(p []byte) { clear(p[1:]); p[0] = 1 }} {
			t.Run(role+" "+name, func(t *testing.T) {
				j, r := breaker(t, role)
				alter(t, j.cmd.Process.Pid, r.Areas[0], damage)
				if code := j.exit(t); code != 33 || !strings.Contains(j.out.String(), "BAD "+role) {
					t.Errorf("exit code %d: %s", code, j.out.String())
				}
			})
		}
	}
}

// alter damages a few pages of the area. Some may be away for a moment, or about to be
// given up or written as a whole; any of them will do.
func alter(t *testing.T, pid int, a BreakerArea, damage func([]byte)) {
	t.Helper()
	mem, err := os.OpenFile(fmt.Sprintf("/proc/%d/mem", pid), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer mem.Close()
	const pageSize = 4096
	altered := 0
	for i := range int64(8) {
		page := make([]byte, pageSize)
		at := a.Address + (a.Pages/10*i+7)*pageSize
		if _, err := mem.ReadAt(page, at); err != nil {
			continue
		}
		damage(page)
		if _, err := mem.WriteAt(page, at); err == nil {
			altered++
		}
	}
	if altered == 0 {
		t.Fatal("no page could be altered")
	}
}

func TestABreakersOutputIsJudged(t *testing.T) {
	const begin = "area 0x1000 2\nready\n"
	for name, tc := range map[string]struct {
		out  string
		oks  int64
		fail bool
	}{
		"whole":          {begin + "ok 1\nok 2\nbye\n", 2, false},
		"cut":            {begin + "ok 1\nok", 1, false},
		"damage":         {begin + "ok 1\nBAD random: page\n", 1, true},
		"a gap":          {begin + "ok 1\nok 3\n", 1, true},
		"twice":          {begin + "ok 1\nok 1\n", 1, true},
		"after the end":  {begin + "bye\nok 1\n", 0, true},
		"before it was":  {"ok 1\n", 0, true},
		"something else": {begin + "hello\n", 0, true},
	} {
		r, err := JudgeBreaker(tc.out)
		if r.Oks != tc.oks || err != nil != tc.fail {
			t.Errorf("%s: %+v, %v", name, r, err)
		}
	}
}
