package printable

import (
	"fmt"
	"io"
	"strings"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"
)

// Text escapes s, and keeps the ends of lines and tabs.
func Text(s string) string {
	if !strings.ContainsFunc(s, func(r rune) bool { return r == utf8.RuneError || !shown(r) && r != '\n' && r != '\t' }) {
		return s
	}
	return string(escape(nil, []byte(s), "\n\t"))
}

// Line escapes all of s, so that it stays on one line and in one column.
func Line(s string) string {
	if !strings.ContainsFunc(s, func(r rune) bool { return r == utf8.RuneError || !shown(r) }) {
		return s
	}
	return string(escape(nil, []byte(s), ""))
}

func shown(r rune) bool { return unicode.IsPrint(r) }

func escape(to, s []byte, keep string) []byte {
	for len(s) > 0 {
		r, n := utf8.DecodeRune(s)
		switch {
		case r == utf8.RuneError && n == 1:
			to = fmt.Appendf(to, `\x%02x`, s[0])
		case shown(r) || strings.ContainsRune(keep, r):
			to = append(to, s[:n]...)
		case r > 0xffff:
			high, low := utf16.EncodeRune(r)
			to = fmt.Appendf(to, `\u%04x\u%04x`, high, low)
		default:
			to = fmt.Appendf(to, `\u%04x`, r)
		}
		s = s[n:]
	}
	return to
}

// Writer passes text on as Text does.
type Writer struct {
	w    io.Writer
	rest []byte // the beginning of a character
	buf  []byte
}

// NewWriter returns a writer to w. It is not for several callers at a time.
func NewWriter(w io.Writer) *Writer { return &Writer{w: w} }

// Write writes all of p but a character that is not whole yet.
func (w *Writer) Write(p []byte) (int, error) {
	all := append(w.rest, p...)
	whole := len(all) - unfinished(all)
	w.buf = escape(w.buf[:0], all[:whole], "\n\t")
	w.rest = append([]byte(nil), all[whole:]...)
	if _, err := w.w.Write(w.buf); err != nil {
		return 0, err
	}
	return len(p), nil
}

// Flush writes what is left: bytes that have not become a character.
func (w *Writer) Flush() error {
	rest := escape(nil, w.rest, "\n\t")
	if w.rest = nil; len(rest) == 0 {
		return nil
	}
	_, err := w.w.Write(rest)
	return err
}

// unfinished is how many bytes at the end of p may begin a character.
func unfinished(p []byte) int {
	for n := 1; n < utf8.UTFMax && n <= len(p); n++ {
		tail := p[len(p)-n:]
		if utf8.RuneStart(tail[0]) {
			if utf8.FullRune(tail) {
				return 0
			}
			return n
		}
	}
	return 0
}
