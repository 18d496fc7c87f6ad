package criu

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"strings"
)

const (
	maxLines   = 10
	maxLine    = 1 << 10 // bytes of one line that are quoted
	maxLogRead = 8 << 20 // bytes at the end of the log that are looked at
)

// Failure is what CRIU's log says about a failure.
type Failure struct {
	Lines  []string // the last lines that tell of errors, at most ten
	Code   string   // of the kind of failure; empty if the log tells of none
	Cause  string   // in words of this project; empty if not known
	Remedy string   // what to do about it; empty if not known

	known bool // the code is of a known kind, and stays
}

// Diagnose reads a log of CRIU. The cause comes from the first line of a known kind, because CRIU goes
// on to complain about what follows from it; without one, from the part of CRIU that was the first to
// complain. A log that cannot be read gives one line that says so.
func Diagnose(logPath string) Failure {
	f, err := os.Open(logPath)
	if err != nil {
		return Failure{Lines: []string{fmt.Sprintf("no log of CRIU: %v", err)}}
	}
	defer f.Close()
	if info, err := f.Stat(); err == nil && info.Size() > maxLogRead {
		if _, err := f.Seek(-maxLogRead, io.SeekEnd); err != nil {
			return Failure{Lines: []string{fmt.Sprintf("read log of CRIU: %v", err)}}
		}
	}
	return DiagnoseText(f)
}

// DiagnoseText is Diagnose for a log that is open. It keeps each line that tells of an error and, as its
// context, a warning of a known kind right before it: CRIU also warns where all goes well.
func DiagnoseText(r io.Reader) Failure {
	var f Failure
	var warning string
	lines := bufio.NewReaderSize(r, maxLine)
	for {
		line, err := readLine(lines)
		switch {
		case isError(line) && !harmless(line):
			f.add(warning, line)
			warning = ""
		case strings.Contains(line, "Warn  (") && kindOf(kinds, line) != nil:
			warning = line
		default:
			warning = ""
		}
		if err != nil {
			return f
		}
	}
}

func (f *Failure) add(lines ...string) {
	for _, line := range lines {
		if line == "" {
			continue
		}
		f.explain(line)
		if line = advice.ReplaceAllString(line, ""); !emptied.MatchString(line) {
			f.Lines = append(f.Lines, line)
		}
	}
	if n := len(f.Lines); n > maxLines {
		f.Lines = f.Lines[n-maxLines:]
	}
}

func isError(line string) bool {
	return strings.Contains(line, "Error (") || strings.Contains(line, "BUG at ")
}

func harmless(line string) bool {
	for _, s := range harmlessLines {
		if strings.Contains(line, s) {
			return true
		}
	}
	return false
}

// explain takes the first known kind, and until then the first part of CRIU.
func (f *Failure) explain(line string) {
	if f.known {
		return
	}
	k := kindOf(kinds, line)
	if f.known = k != nil; !f.known && f.Code == "" {
		k = kindOf(subsystems, line)
	}
	if k != nil {
		f.Code, f.Cause, f.Remedy = k.code, k.cause, k.remedy
	}
}

func kindOf(table []kind, line string) *kind {
	for i := range table {
		if table[i].pattern.MatchString(line) {
			return &table[i]
		}
	}
	return nil
}

// advice names options of CRIU's, which its user has and migrate's has not. emptied is a line of which
// nothing else was left.
var (
	advice  = regexp.MustCompile(`(?i)[,.!]? *((you can )?(consider|try)\b|use link-remap|file r/w/x checks|in-flight connections can be ignored|that's not the flag).*(--[a-z]|option).*$`)
	emptied = regexp.MustCompile(`\): *(\w+: *)?$`)
)

// readLine returns one line without its end, cut to maxLine bytes.
func readLine(r *bufio.Reader) (string, error) {
	part, err := r.ReadSlice('\n')
	line := strings.TrimRight(string(part), "\r\n")
	for errors.Is(err, bufio.ErrBufferFull) {
		_, err = r.ReadSlice('\n')
	}
	return line, err
}
