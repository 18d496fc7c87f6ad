package osthread

import (
	"testing"

	"golang.org/x/sys/unix"
)

// nice is the priority of the calling thread.
func nice(t *testing.T) int {
	t.Helper()
	raw, err := unix.Getpriority(unix.PRIO_PROCESS, 0)
	if err != nil {
		t.Fatal(err)
	}
	return 20 - raw
}

func TestAPoliteThreadIsAnOrdinaryOneAfterwards(t *testing.T) {
	before, meanwhile, after := 0, 0, 0
	done := make(chan struct{})
	go func() {
		defer close(done)
		before = nice(t)
		Politely(func(*Clock) { meanwhile = nice(t) })
		after = nice(t)
	}()
	<-done
	if meanwhile != max(Polite, before) {
		t.Errorf("nice %d", meanwhile)
	}
	if unix.Geteuid() == 0 && after != before {
		t.Errorf("nice %d before, %d after", before, after)
	}
}
