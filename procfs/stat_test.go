package procfs

import (
	"os"
	"strings"
	"testing"
)

func TestStatOfAProcessWithAnOddNameIsRead(t *testing.T) {
	const text = "4711 (a) R 1 (b) T 1 4711 4711 0 -1 4194304 1 2 3 4 5 6 7 8 20 0 1 0 987654 1 2 3\n"
	if s, err := ParseStat(text); err != nil || s != (Stat{State: 'T', Flags: 4194304, Began: 987654}) || s.Ended() {
		t.Errorf("%+v, %v", s, err)
	}
	for _, text := range []string{"", "1 (a) R 1 2 3", "1 (a) R 1 4711 4711 0 -1 4194304 1 2 3 4 5 6 7 8 20 0 1 0 never"} {
		if s, err := ParseStat(text); err == nil {
			t.Errorf("%q is read as %+v", text, s)
		}
	}
	if !(Stat{State: 'Z'}).Ended() || !(Stat{State: 'X'}).Ended() {
		t.Error("it has ended")
	}
}

func TestAProcessBeganAfterItsParent(t *testing.T) {
	us, err := ReadStat(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	parent, err := ReadStat(os.Getppid())
	if err != nil {
		t.Fatal(err)
	}
	if us.Began < parent.Began || us.Ended() {
		t.Errorf("we are %+v, our parent is %+v", us, parent)
	}
}

func FuzzParseStat(f *testing.F) {
	f.Add("4711 (sh) S 1 4711 4711 0 -1 4194304 1 2 3 4 5 6 7 8 20 0 1 0 987654 1 2 3\n")
	f.Fuzz(func(t *testing.T, text string) {
		if s, err := ParseStat(text); err == nil && !strings.Contains(text, ")") {
			t.Errorf("%q is read as %+v", text, s)
		}
	})
}
