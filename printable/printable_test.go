package printable

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"
)

var hostile = map[string]string{
	"plain, with ümlauts, 日本 and →": "plain, with ümlauts, 日本 and →",
	"\x1b]0;title\x07":              `\u001b]0;title\u0007`,
	"\x1b[2J\r\b\x7f\x00":           `\u001b[2J\u000d\u0008\u007f\u0000`,
	"C1: \u009b2J":                  `C1: \u009b2J`,
	"C1, one byte: \x9b2J":          `C1, one byte: \x9b2J`,
	"half a character: \xe2\x82":    `half a character: \xe2\x82`,
	"bidi: \u202e\u2066\u200f":      `bidi: \u202e\u2066\u200f`,
	"no room: \u200b\u00ad\ufeff":   `no room: \u200b\u00ad\ufeff`,
	"lines: \u2028\u2029\u0085":     `lines: \u2028\u2029\u0085`,
	"tags: \U000e0041":              `tags: \udb40\udc41`,
	"replacement: \ufffd":           "replacement: \ufffd",
}

func TestWhatATerminalWouldObeyIsEscaped(t *testing.T) {
	for s, want := range hostile {
		if got := Text(s + "\n\t"); got != want+"\n\t" {
			t.Errorf("text %q: %q", s, got)
		}
		if got := Line(s + "\n\t"); got != want+`\u000a\u0009` {
			t.Errorf("line %q: %q", s, got)
		}
	}
}

func TestAWriterEscapesWhateverComesInPieces(t *testing.T) {
	for s, want := range hostile {
		for size := 1; size < 5; size++ {
			var b bytes.Buffer
			w := NewWriter(&b)
			for rest := []byte(s + "\n"); len(rest) > 0; rest = rest[min(size, len(rest)):] {
				if n, err := w.Write(rest[:min(size, len(rest))]); n != min(size, len(rest)) || err != nil {
					t.Fatal(n, err)
				}
			}
			if err := w.Flush(); err != nil || b.String() != want+"\n" {
				t.Errorf("%q in pieces of %d: %q %v", s, size, b.String(), err)
			}
		}
	}
	var b bytes.Buffer
	w := NewWriter(&b)
	if _, err := w.Write([]byte("x\xe2\x82")); err != nil || b.String() != "x" {
		t.Errorf("half a character is written: %q %v", b.String(), err)
	}
	if err := w.Flush(); err != nil || b.String() != `x\xe2\x82` {
		t.Errorf("at the end: %q %v", b.String(), err)
	}
}

func FuzzWriter(f *testing.F) {
	for s := range hostile {
		f.Add([]byte(s), 2)
	}
	f.Fuzz(func(t *testing.T, s []byte, at int) {
		at = max(0, min(at, len(s)))
		var b bytes.Buffer
		w := NewWriter(&b)
		_, err1 := w.Write(s[:at])
		_, err2 := w.Write(s[at:])
		if err3 := w.Flush(); err1 != nil || err2 != nil || err3 != nil || b.String() != Text(string(s)) {
			t.Errorf("%q cut at %d: %q, whole %q", s, at, b.String(), Text(string(s)))
		}
		bad := func(r rune) bool { return !unicode.IsPrint(r) && r != '\n' && r != '\t' }
		if !utf8.ValidString(b.String()) || strings.ContainsFunc(b.String(), bad) {
			t.Errorf("%q becomes %q", s, b.String())
		}
		// JSON still says the same.
		said, err := json.Marshal(string(s))
		if err != nil {
			t.Fatal(err)
		}
		var want, got string
		if json.Unmarshal(said, &want) != nil || json.Unmarshal([]byte(Text(string(said))), &got) != nil || got != want {
			t.Errorf("%s becomes %s", said, Text(string(said)))
		}
	})
}
