package vm

import (
	"testing"
	"time"
)

func TestTry(t *testing.T) {
	l, err := NewLab(t.Context(), t.Logf)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	a, b, err := l.Pair(t.Context())
	if err != nil {
		for _, m := range l.machines {
			t.Log(tail(m.SerialLog()))
		}
		t.Fatal(err)
	}
	_ = b
	for _, args := range [][]string{{"ping", "-c", "3", "-i", "0.2", b.IP()}, {"uname", "-a"}, {"criu", "check"}, {"/usr/local/lib/migrate/criu/criu", "check"}, {"cat", "/proc/uptime"}, {"dmesg"}} {
		began := time.Now()
		out, err := a.Exec(t.Context(), args...)
		t.Logf("%v: %v %v %s", time.Since(began), args, err, out)
	}
}
