package target

import (
	"os"
	"strings"
	"sync"
	"testing"

	"github.com/migrate-hpc/migrate/testenv"
)

func faultSwitch(t *testing.T) string {
	t.Helper()
	data, err := os.ReadFile(faultSysctl)
	if err != nil {
		testenv.Missing(t, "this kernel has no userfaultfd switch: %v", err)
	}
	return strings.TrimSpace(string(data))
}

func TestFaultAccessIsOnAsLongAsItIsNeeded(t *testing.T) {
	testenv.NeedRoot(t)
	if faultSwitch(t) == "1" {
		testenv.Missing(t, "vm.unprivileged_userfaultfd is on, by the operator or by an agent that restores just now")
	}
	var first, second func() error
	for _, done := range []*func() error{&first, &second} {
		var err error
		if *done, err = openFaultAccess(); err != nil {
			t.Fatal(err)
		}
	}
	for _, step := range []struct {
		do   func() error
		want string
	}{{CloseFaultAccess, "1"}, {first, "1"}, {second, "0"}, {CloseFaultAccess, "0"}} {
		if err := step.do(); err != nil {
			t.Error(err)
		}
		if got := faultSwitch(t); got != step.want {
			t.Errorf("the switch is %s, want %s", got, step.want)
		}
	}
}

func TestFaultAccessIsOffAfterManyUsersAtOnce(t *testing.T) {
	testenv.NeedRoot(t)
	if faultSwitch(t) == "1" {
		testenv.Missing(t, "vm.unprivileged_userfaultfd is on, by the operator or by an agent that restores just now")
	}
	var users sync.WaitGroup
	for range 8 {
		users.Go(func() {
			for range 20 {
				done, err := openFaultAccess()
				if err != nil {
					t.Error(err)
					return
				}
				if data, err := os.ReadFile(faultSysctl); err != nil || strings.TrimSpace(string(data)) != "1" {
					t.Errorf("the switch is %s (%v) while it is needed", data, err)
				}
				if err := done(); err != nil {
					t.Error(err)
				}
			}
		})
	}
	users.Wait()
	if got := faultSwitch(t); got != "0" {
		t.Errorf("the switch is %s", got)
	}
}
