package affinity

import (
	"os"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func cpus(t *testing.T, text string) Set {
	t.Helper()
	c, err := Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestASetIsWrittenAsTheKernelWritesIt(t *testing.T) {
	for _, text := range []string{"", "0", "0-1", "3,5-7,64", "0-8191"} {
		if got := cpus(t, text).String(); got != text {
			t.Errorf("%q became %q", text, got)
		}
	}
	for _, text := range []string{"-", "1-", "2-1", "8192", "0-9999", "a", "1,,2", "0x1", " 1", strings.Repeat("1,", maxText)} {
		if c, err := Parse(text); err == nil {
			t.Errorf("%.20q is %v", text, c)
		}
	}
}

func TestAThreadIsBoundAndToldByTheKernel(t *testing.T) {
	runtime.LockOSThread() // and never unlocked: the thread ends with the test
	all, err := Of(0)
	if err != nil || all.Empty() {
		t.Fatalf("%v, %v", all, err)
	}
	if data, err := os.ReadFile("/proc/thread-self/status"); err != nil || !strings.Contains(string(data), "Cpus_allowed_list:\t"+all.String()+"\n") {
		t.Errorf("the kernel does not say %v: %v", all, err)
	}
	var one Set
	one.put(all.numbers()[0])
	if err := Bind(unix.Gettid(), one); err != nil {
		t.Fatal(err)
	}
	if is, err := Of(unix.Gettid()); err != nil || is != one {
		t.Errorf("bound to %v: %v, %v", one, is, err)
	}
	if err := Bind(unix.Gettid(), Set{}); err == nil {
		t.Error("a thread is bound to nothing")
	}
}

func TestBoundThreadsAreKeptMappedOrSetFree(t *testing.T) {
	for _, test := range []struct {
		mode            Mode
		bound, given, c string
		want, told      string
	}{
		{Map, "2-3", "0-7", "3", "3", "stay bound to processors 2-3"},
		{Map, "64-71", "0-15", "65-66", "1-2", "64-71 are bound to 0-7"},
		{Map, "0-3", "4,6", "0", "4", "0-3 are bound to 4,6"},
		{Map, "0-3", "4,6", "1", "6", "bound to 4,6"},
		{Map, "0-3", "4,6", "2-3", "4,6", "bound to 4,6"},     // shared: the node has no more
		{Map, "1,9", "0-3", "1", "0", "1,9 are bound to 0-1"}, // 1 is there, but the job moves as a whole
		{Keep, "0-1", "0-1", "1", "1", "stay bound"},
		{Drop, "0", "0-3", "0", "0-3", "may run on all"},
		{Map, "", "0-3", "", "", ""},
	} {
		p := Placement{Bound: cpus(t, test.bound), Given: cpus(t, test.given), Mode: test.mode}
		if got := p.Place(cpus(t, test.c)); got != cpus(t, test.want) {
			t.Errorf("%+v: placed on %v", test, got)
		}
		if told := p.String(); !strings.Contains(told, test.told) || test.told == "" && told != "" {
			t.Errorf("%+v: told %q", test, told)
		}
	}
	if _, err := ParseMode("same"); err == nil {
		t.Error("an unknown mode is taken")
	}
	if m, err := ParseMode(""); err != nil || m != Map {
		t.Errorf("the usual mode is %q, %v", m, err)
	}
}

func FuzzParse(f *testing.F) {
	f.Add("0-3,8")
	f.Fuzz(func(t *testing.T, text string) {
		c, err := Parse(text)
		if err != nil {
			return
		}
		if again, err := Parse(c.String()); err != nil || again != c {
			t.Errorf("%q: %v, %v", text, again, err)
		}
	})
}
