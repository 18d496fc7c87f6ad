package timens

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/migrate-hpc/migrate/osthread"
	"github.com/migrate-hpc/migrate/testenv"
)

const childEnv = "TIMENS_TEST_CHILD"

// As a child the test binary prints its clocks, then waits for its input to end.
func TestMain(m *testing.M) {
	if os.Getenv(childEnv) == "" {
		os.Exit(m.Run())
	}
	host, err := Host()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	err = json.NewEncoder(os.Stdout).Encode(map[string]Reading{"now": Now(), "host": host})
	_, copyErr := io.Copy(io.Discard, os.Stdin)
	if errors.Join(err, copyErr) != nil {
		os.Exit(1)
	}
	os.Exit(0)
}

type child struct {
	Now, Host Reading
	// As the parent reads them from /proc.
	mono, boot time.Duration
}

// startIn runs a child in a new time namespace with the given offsets.
func startIn(mono, boot time.Duration) (child, error) {
	var c child
	err := osthread.Throwaway(func() error {
		if err := unix.Unshare(unix.CLONE_NEWTIME); err != nil {
			return fmt.Errorf("unshare: %w", err)
		}
		if err := WriteOffsets(mono, boot); err != nil {
			return err
		}
		return c.run()
	})
	return c, err
}

func (c *child) run() error {
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), childEnv+"=1")
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		return err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	decodeErr := json.NewDecoder(out).Decode(c)
	var offErr error
	c.mono, c.boot, offErr = Offsets(cmd.Process.Pid)
	return errors.Join(decodeErr, offErr, in.Close(), cmd.Wait())
}

func TestAChildReadsTheClocksThatWereWanted(t *testing.T) {
	testenv.NeedRoot(t)
	before, err := Host()
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []Reading{
		{Monotonic: 0, Boottime: 0},
		{Monotonic: 3*time.Hour + 7, Boottime: 5 * time.Hour},
		{Monotonic: 40 * year, Boottime: 41 * year},
		{Monotonic: time.Duration(MaxClock), Boottime: time.Duration(MaxClock)},
	} {
		mono, boot, err := OffsetsFor(want.Monotonic, want.Boottime, before)
		if err != nil {
			t.Fatal(err)
		}
		got, err := startIn(mono, boot)
		if err != nil {
			t.Fatal(err)
		}
		if got.mono != mono || got.boot != boot {
			t.Errorf("wrote offsets %v %v, /proc shows %v %v", mono, boot, got.mono, got.boot)
		}
		near(t, "monotonic", got.Now.Monotonic, want.Monotonic)
		near(t, "boottime", got.Now.Boottime, want.Boottime)
		near(t, "host monotonic from inside", got.Host.Monotonic, before.Monotonic)
		near(t, "host boottime from inside", got.Host.Boottime, before.Boottime)
	}
}

// near allows for the time that the test itself takes.
func near(t *testing.T, what string, got, atLeast time.Duration) {
	t.Helper()
	if got < atLeast || got > atLeast+time.Minute {
		t.Errorf("%s is %v, want %v or a little more", what, got, atLeast)
	}
}

func TestTheKernelRefusesWhatOffsetsForRefuses(t *testing.T) {
	testenv.NeedRoot(t)
	host, err := Host()
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := OffsetsFor(-time.Second, 0, host); !errors.Is(err, ErrRange) {
		t.Errorf("a negative clock gave %v", err)
	}
	if _, err := startIn(-host.Monotonic-time.Hour, 0); !errors.Is(err, unix.ERANGE) {
		t.Errorf("the kernel's answer to a negative clock is %v, want ERANGE", err)
	}
}

func TestOffsetsOfAGoneTaskAreAnError(t *testing.T) {
	_, _, err := Offsets(1 << 30)
	if !errors.Is(err, os.ErrNotExist) || errors.Is(err, ErrUnsupported) {
		t.Errorf("got %v, want a plain not-exist error", err)
	}
}

func TestHostIsNowOutsideATimeNamespace(t *testing.T) {
	mono, boot, err := Offsets(os.Getpid())
	if err != nil || mono != 0 || boot != 0 {
		testenv.Missing(t, "this process is in a time namespace itself: %v %v %v", mono, boot, err)
	}
	now := Now()
	host, err := Host()
	if err != nil {
		t.Fatal(err)
	}
	near(t, "host monotonic", host.Monotonic, now.Monotonic)
	near(t, "host boottime", host.Boottime, now.Boottime)
}
