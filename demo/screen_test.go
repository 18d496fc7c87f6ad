package demo

import (
	"bytes"
	"strings"
	"testing"
)

func TestScreenHasEscapesOnATerminalOnly(t *testing.T) {
	for _, terminal := range []bool{true, false} {
		var b bytes.Buffer
		s := screen{w: &b, terminal: terminal}
		s.heading("1. Heading")
		s.status("working")
		s.say("done")
		if got := strings.ContainsAny(b.String(), "\x1b\r"); got != terminal {
			t.Errorf("terminal %v: %q", terminal, b.String())
		}
		if !strings.HasSuffix(b.String(), "done\n") {
			t.Errorf("terminal %v: %q", terminal, b.String())
		}
	}
}

func TestScreenWrapsTextAtItsWidth(t *testing.T) {
	text := strings.Repeat("four word text here ", 20)
	lines := wrap(text, 33)
	for _, l := range lines {
		if len(l) > 33 || l != strings.TrimSpace(l) {
			t.Errorf("%q", l)
		}
	}
	if got := strings.Join(lines, " "); got != strings.TrimSpace(text) {
		t.Errorf("words were lost: %q", got)
	}
}

func TestScreenAlignsColumns(t *testing.T) {
	got := grid([][]string{{"a", "10", "x"}, {"bcd", "9", ""}}, 1)
	if want := []string{"a    10  x", "bcd   9"}; strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("%q", got)
	}
}

func TestScreenSizesKeepFractions(t *testing.T) {
	for n, want := range map[int64]string{0: "0 MiB", 256 << 20: "256 MiB", 257<<20 + 300<<10: "257.3 MiB"} {
		if got := mebibytes(n); got != want {
			t.Errorf("%d: %s, not %s", n, got, want)
		}
	}
}
