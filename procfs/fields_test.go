package procfs

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"reflect"
	"slices"
	"strings"
	"testing"
)

const sampleStatus = "Name:\tmy \\n\\\\job\nUmask:\t0022\nState:\tS (sleeping)\nPPid:\t1\nUid:\t1000\t1001\t1002\t1003\nGroups:\t4 24 1000 \n" +
	"NSpid:\t4711\t12\t1\nVmLck:\t       0 kB\nRssAnon:\t    1024 kB\nSigBlk:\t0000000000010000\nSigCgt:\t0000000000000001\n"

func TestFieldsOfAStatusAreRead(t *testing.T) {
	f := ParseFields(sampleStatus)
	umask, err1 := f.Uint("Umask", 8)
	uids, err2 := f.Numbers("Uid")
	groups, err3 := f.Numbers("Groups")
	handled, err4 := f.Handled()
	if err := errors.Join(err1, err2, err3, err4); err != nil {
		t.Fatal(err)
	}
	got := []any{f.Name(), umask, uids, groups, handled, f.Size("RssAnon"), f.Size("VmLck"), f.Size("VmSwap")}
	want := []any{"my \n\\job", uint64(0o22), []uint32{1000, 1001, 1002, 1003}, []uint32{4, 24, 1000}, uint64(0x10001), int64(1 << 20), int64(0), int64(0)}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("%v\nwant\n%v", got, want)
	}
}

func TestWhatTheKernelDoesNotTellIsAnError(t *testing.T) {
	f := ParseFields("Umask:\tnine\nGroups:\t1 -2\n")
	for name, err := range map[string]error{
		"no number":  second(f.Uint("Umask", 8)),
		"one is not": second(f.Numbers("Groups")),
		"missing":    second(f.Uint("CapEff", 16)),
		"none":       second(f.Numbers("Uid")),
		"no masks":   second(f.Handled()),
	} {
		if err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	if _, err := f.Numbers("Uid"); !errors.Is(err, ErrNoField) {
		t.Errorf("missing: %v", err)
	}
}

func second[T any](_ T, err error) error { return err }

func TestATaskThatHasEndedIsGone(t *testing.T) {
	cmd := exec.Command("true")
	if err := cmd.Run(); err != nil {
		t.Fatal(err)
	}
	if _, err := ReadStatus(cmd.Process.Pid); !IsGone(err) {
		t.Errorf("it has ended: %v", err)
	}
	if _, err := ReadStatus(os.Getpid()); err != nil {
		t.Errorf("it lives: %v", err)
	}
}

func TestTheThreadsOfAProcessAreNumbers(t *testing.T) {
	tids, err := Numbers("/proc/self/task")
	if err != nil || !slices.Contains(tids, os.Getpid()) || !slices.IsSorted(tids) {
		t.Errorf("%v, %v", tids, err)
	}
	if pids, err := Numbers("/proc"); err != nil || !slices.Contains(pids, os.Getpid()) || slices.Contains(pids, 0) {
		t.Errorf("%v, %v", pids, err)
	}
}

func ExampleParseFields() {
	status := ParseFields("Name:\tpython3\nUid:\t1000\t1000\t1000\t1000\nRssAnon:\t   2048 kB\n")
	uids, err := status.Numbers("Uid")
	fmt.Println(status.Name(), uids, err, status.Size("RssAnon"))
	// Output: python3 [1000 1000 1000 1000] <nil> 2097152
}

func FuzzParseFields(f *testing.F) {
	f.Add(sampleStatus)
	f.Add("no colon\n:\n::\nA:")
	f.Fuzz(func(t *testing.T, text string) {
		fields := ParseFields(text)
		for key, value := range fields {
			if strings.ContainsAny(key, "\n:") || strings.Contains(value, "\n") {
				t.Errorf("%q: %q", key, value)
			}
			if fields.Size(key) < 0 {
				t.Errorf("%q is %d bytes", value, fields.Size(key))
			}
			_, _ = fields.Uint(key, 16)
			_, _ = fields.Numbers(key)
		}
	})
}
