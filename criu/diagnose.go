package criu

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
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
	Cause  string   // in words of this project; empty if not known
	Remedy string   // what to do about it; empty if not known
}

// Diagnose reads a log of CRIU. The cause comes from the first line that is
// known, because CRIU goes on to complain about what follows from it. A log
// that cannot be read gives one line that says so.
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
	return diagnose(f)
}

// diagnose keeps each line that tells of an error and, as its context, a
// warning right before it.
func diagnose(r io.Reader) Failure {
	var f Failure
	var warning string
	lines := bufio.NewReaderSize(r, maxLine)
	for {
		line, err := readLine(lines)
		switch {
		case isError(line) && !harmless(line):
			f.add(warning, line)
			warning = ""
		case strings.Contains(line, "Warn  (") && !harmless(line):
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
		f.Lines = append(f.Lines, line)
		if f.Cause == "" {
			f.Cause, f.Remedy = explain(line)
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

func explain(line string) (cause, remedy string) {
	for _, k := range knownFailures {
		if k.pattern.MatchString(line) {
			return k.cause, k.remedy
		}
	}
	return "", ""
}

// readLine returns one line without its end, cut to maxLine bytes.
func readLine(r *bufio.Reader) (string, error) {
	part, err := r.ReadSlice('\n')
	line := strings.TrimRight(string(part), "\r\n")
	for errors.Is(err, bufio.ErrBufferFull) {
		_, err = r.ReadSlice('\n')
	}
	return line, err
}
