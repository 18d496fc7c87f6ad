package exactjson

import (
	"strings"
	"unicode/utf8"
)

// The characters that stand for bytes: first is byte 0x80, last is byte 0xff.
const (
	first = 0x10ff80
	last  = 0x10ffff
)

// isExact tells whether JSON keeps a string as it is.
func isExact(s string) bool { return utf8.ValidString(s) && !mayHoldBytes(s) }

// mayHoldBytes tells whether a string may hold characters that stand for bytes: the last block of
// Unicode begins so.
func mayHoldBytes(s string) bool { return strings.Contains(s, "\xf4\x8f") }

// escape has characters stand for what JSON would not keep.
func escape(s string) string {
	if isExact(s) {
		return s
	}
	var b strings.Builder
	for len(s) > 0 {
		r, n := utf8.DecodeRuneInString(s)
		if r == utf8.RuneError && n == 1 || r >= first && r <= last {
			for _, c := range []byte(s[:n]) {
				b.WriteRune(first - 0x80 + rune(c))
			}
		} else {
			b.WriteString(s[:n])
		}
		s = s[n:]
	}
	return b.String()
}

// restore undoes escape.
func restore(s string) string {
	if !mayHoldBytes(s) {
		return s
	}
	var b strings.Builder
	for _, r := range s {
		if r >= first && r <= last {
			b.WriteByte(byte(r - first + 0x80))
		} else {
			b.WriteRune(r)
		}
	}
	return b.String()
}
