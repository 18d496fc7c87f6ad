package calls

import (
	"bytes"
	"errors"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/migrate-hpc/migrate/criu/image"
)

func TestACallGoesOnWithTheRestOfItsLimit(t *testing.T) {
	const at, rest = 0x7000, 0x8000 // addresses
	const left = 1500*time.Millisecond + time.Nanosecond
	for name, c := range map[string]struct {
		number   uint64
		args     [4]uint64
		filtered bool
		left     time.Duration
		want     image.Again
		need     int
	}{
		"poll":                       {number: unix.SYS_POLL, args: [4]uint64{at, 2, 60_000}, want: image.Again{Number: unix.SYS_POLL, Args: [4]uint64{at, 2, 1501}}, need: noArg},
		"epoll_pwait":                {number: unix.SYS_EPOLL_PWAIT, args: [4]uint64{3, at, 1, 60_000}, want: image.Again{Number: unix.SYS_EPOLL_PWAIT, Args: [4]uint64{3, at, 1, 1501}}, need: noArg},
		"a sleep":                    {number: unix.SYS_NANOSLEEP, args: [4]uint64{at, rest}, want: image.Again{Number: unix.SYS_POLL, Args: [4]uint64{0, 0, 1501}}, need: noArg},
		"a sleep on a clock":         {number: unix.SYS_CLOCK_NANOSLEEP, args: [4]uint64{unix.CLOCK_BOOTTIME, 0, at, 0}, want: image.Again{Number: unix.SYS_POLL, Args: [4]uint64{0, 0, 1501}}, need: noArg},
		"a sleep on processor time":  {number: unix.SYS_CLOCK_NANOSLEEP, args: [4]uint64{unix.CLOCK_PROCESS_CPUTIME_ID, 0, at, rest}, want: image.Again{Number: unix.SYS_CLOCK_NANOSLEEP, Args: [4]uint64{unix.CLOCK_PROCESS_CPUTIME_ID, 0, rest, rest}}, need: noArg},
		"a sleep that may not poll":  {number: unix.SYS_NANOSLEEP, args: [4]uint64{at, rest}, filtered: true, want: image.Again{Number: unix.SYS_NANOSLEEP, Args: [4]uint64{rest, rest}}, need: noArg},
		"one that also has no rest":  {number: unix.SYS_NANOSLEEP, args: [4]uint64{at, 0}, filtered: true, want: image.Again{Number: unix.SYS_NANOSLEEP, Args: [4]uint64{at, 0}}, need: noArg},
		"a sleep too long to poll":   {number: unix.SYS_NANOSLEEP, args: [4]uint64{at, rest}, left: longest, want: image.Again{Number: unix.SYS_NANOSLEEP, Args: [4]uint64{rest, rest}}, need: noArg},
		"poll, over when it stopped": {number: unix.SYS_POLL, args: [4]uint64{at, 2, 60_000}, left: -1, want: image.Again{Number: unix.SYS_POLL, Args: [4]uint64{at, 2, 0}}, need: noArg},
		"futex":                      {number: unix.SYS_FUTEX, args: [4]uint64{at, 128, 7, rest}, want: image.Again{Number: unix.SYS_FUTEX, Args: [4]uint64{at, 128, 7, rest}}, need: 3},
		"sigtimedwait":               {number: unix.SYS_RT_SIGTIMEDWAIT, args: [4]uint64{at, 0, rest, 8}, want: image.Again{Number: unix.SYS_RT_SIGTIMEDWAIT, Args: [4]uint64{at, 0, rest, 8}}, need: noArg},
	} {
		l, ok := limitOf(c.number, c.args)
		if !ok {
			t.Errorf("%s: it has no limit", name)
			continue
		}
		if c.left == 0 {
			c.left = left
		}
		if again, need := l.again(image.Call{Number: c.number, Args: c.args, Filtered: c.filtered}, max(0, c.left)); again != c.want || need != c.need {
			t.Errorf("%s: goes on as %+v, needs %d; want %+v, %d", name, again, need, c.want, c.need)
		}
	}
}

func TestACallWithoutALimitOrWithAPointInTimeHasNoRest(t *testing.T) {
	for name, c := range map[string]call{
		"poll":                  {number: unix.SYS_POLL, args: [4]uint64{1, 1, math.MaxUint32}},
		"epoll_wait":            {number: unix.SYS_EPOLL_WAIT, args: [4]uint64{1, 1, 1, math.MaxUint64}},
		"a sleep until":         {number: unix.SYS_CLOCK_NANOSLEEP, args: [4]uint64{1, unix.TIMER_ABSTIME, 1, 1}},
		"futex until":           {number: unix.SYS_FUTEX, args: [4]uint64{1, 128 + 9, 1, 1}},
		"futex":                 {number: unix.SYS_FUTEX, args: [4]uint64{1, 128, 1, 0}},
		"sigwaitinfo":           {number: unix.SYS_RT_SIGTIMEDWAIT, args: [4]uint64{1, 0, 0, 8}},
		"semop":                 {number: unix.SYS_SEMOP, args: [4]uint64{1, 1, 1}},
		"read":                  {number: unix.SYS_READ, args: [4]uint64{1, 1, 1}},
		"what a stop ends once": {number: unix.SYS_CLOSE, args: [4]uint64{1}},
	} {
		if l, ok := limitOf(c.number, c.args); ok {
			t.Errorf("%s has a limit: %+v", name, l)
		}
	}
	if mayRepeat(unix.SYS_CLOSE) {
		t.Error("a file would be closed twice")
	}
}

func TestWhatTheKernelTellsOfAThreadIsParsed(t *testing.T) {
	c, ok := parseCall("230 0x1 0x0 0x7ffc 0x7ffd 0x0 0x9 0x7ffe 0x7f07\n")
	if want := (call{230, [4]uint64{1, 0, 0x7ffc, 0x7ffd}, 0x7f07}); !ok || c != want {
		t.Errorf("got %+v, %v", c, ok)
	}
	for _, text := range []string{"", "running\n", "-1 0x7ffe 0x7f07\n", "230 0x1 0x0 0x7ffc 0x7ffd 0x0 0x9 0x7ffe x\n"} {
		if c, ok := parseCall(text); ok {
			t.Errorf("%q is %+v", text, c)
		}
	}
	s, err := parseScheduled("sleep (1, #threads: 1)\n---\nse.exec_start      :      24523546.079093\nnr_switches : 9\nnr_voluntary_switches : 2\n")
	if want := (scheduled{since: 24523546079093 * time.Nanosecond, switches: 2}); err != nil || s != want {
		t.Errorf("got %+v, %v", s, err)
	}
	for _, text := range []string{"", "se.exec_start : 1.000001\n", "se.exec_start : x\nnr_voluntary_switches : 2\n", "se.exec_start : 1.000001\nnr_voluntary_switches : -2\n"} {
		if s, err := parseScheduled(text); err == nil {
			t.Errorf("%q is %+v", text, s)
		}
	}
}

// A call that is the same before and after the freeze may be another one: the first has ended, and the
// thread has made it again.
func TestACallThatWasMadeAnewIsNotTakenForTheOneThatWasSeen(t *testing.T) {
	s := &source{clocks: processorClocks{1: time.Hour}, frozen: 2 * time.Hour}
	was := sight{switches: 7}
	for name, c := range map[string]struct {
		now  scheduled
		same bool
	}{
		"frozen in its sleep":                 {scheduled{switches: 7, processor: 1}, true},
		"woken by the freeze":                 {scheduled{since: time.Hour, switches: 8, processor: 1}, true},
		"in a new call, frozen in its sleep":  {scheduled{since: time.Hour - 1, switches: 8, processor: 1}, false},
		"in a new call, woken by the freeze":  {scheduled{since: time.Hour, switches: 9, processor: 1}, false},
		"woken on a processor without a look": {scheduled{since: time.Hour, switches: 8, processor: 2}, false},
	} {
		if same := s.isSame(was, c.now); same != c.same {
			t.Errorf("%s: the same: %v", name, same)
		}
	}
}

// The clocks of processors are compared well if a thread of ours that sleeps has fallen asleep since.
func TestASleeperIsSeenWithTheTimeAtWhichItFellAsleep(t *testing.T) {
	before := monotonic()
	asleep := make(chan int)
	go func() {
		asleep <- unix.Gettid()
		ts := unix.NsecToTimespec(int64(time.Hour))
		_ = unix.Nanosleep(&ts, nil)
	}()
	tid := <-asleep
	var got scheduled
	for { // until it sleeps
		c, ok := readCall(taskDir(os.Getpid(), tid))
		s, err := readScheduled(taskDir(os.Getpid(), tid))
		if err != nil {
			t.Fatal(err)
		}
		if got = s; ok && c.number == unix.SYS_NANOSLEEP {
			break
		}
	}
	clocks := processorClocks{}
	clocks.compare()
	if at, known := clocks.monotonic(got); known && (at < before-mostOff || at > monotonic()+mostOff) {
		t.Errorf("it fell asleep at %v, between %v and %v", at, before, monotonic())
	}
}

const golden = "testdata/format-1"

func TestCallsAreWrittenAsTheyAlwaysWere(t *testing.T) {
	images, want := t.TempDir(), []mend{{Thread: 7, Number: unix.SYS_FUTEX, IP: 0x7f07, Again: image.Again{Number: unix.SYS_FUTEX, Args: [4]uint64{0x7000, 128, 3, 0x8000}}, Need: 3, Left: 1500 * time.Millisecond}}
	if err := writeMends(images, want); err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(filepath.Join(images, fileName))
	if err != nil {
		t.Fatal(err)
	}
	if old, err := os.ReadFile(filepath.Join(golden, fileName)); err != nil || !bytes.Equal(bytes.TrimSpace(old), got) {
		t.Errorf("what is written now is not what %s holds (%v): %s", golden, err, got)
	}
	if list, err := readMends(golden); err != nil || !reflect.DeepEqual(list, want) {
		t.Errorf("read %+v, %v", list, err)
	}
	if list, err := readMends(t.TempDir()); err != nil || list != nil {
		t.Errorf("of a source that notes none: %v, %v", list, err)
	}
}

// FuzzCalls has a node send any file. What is read of it can be applied to a thread.
func FuzzCalls(f *testing.F) {
	data, err := os.ReadFile(filepath.Join(golden, fileName))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(data)
	f.Add([]byte(`[{"thread":1,"call":3,"again":{"call":3},"need":9}]`))
	f.Fuzz(func(t *testing.T, data []byte) {
		images := t.TempDir()
		if err := os.WriteFile(filepath.Join(images, fileName), data, 0o600); err != nil {
			t.Fatal(err)
		}
		list, err := readMends(images)
		if err != nil && !errors.Is(err, image.ErrFormat) {
			t.Errorf("got %v", err)
		}
		for _, m := range list {
			if m.Thread <= 0 || m.Left < 0 || m.Need >= len(m.Again.Args) || !mayRepeat(m.Again.Number) {
				t.Errorf("taken: %+v", m)
			}
		}
	})
}

// A page that is not there may be a file server's, or a userfaultfd's.
func TestATimeIsNotReadFromAPageThatIsNotThere(t *testing.T) {
	pages, err := unix.Mmap(-1, 0, 2*os.Getpagesize(), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Munmap(pages)
	page := pages[:os.Getpagesize()]
	if err := unix.Mprotect(pages[len(page):], unix.PROT_NONE); err != nil {
		t.Fatal(err)
	}
	addr := uint64(uintptr(unsafe.Pointer(&page[0])))
	if d, err := readTimespec(os.Getpid(), addr); !errors.Is(err, errAbsent) {
		t.Errorf("got %v, %v", d, err)
	}
	page[0] = 7
	if d, err := readTimespec(os.Getpid(), addr); err != nil || d != 7*time.Second {
		t.Errorf("got %v, %v", d, err)
	}
	if d, err := readTimespec(os.Getpid(), addr+uint64(len(page))-8); err == nil {
		t.Errorf("beyond the end: %v", d)
	}
}
