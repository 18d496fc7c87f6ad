package oracle

import (
	"fmt"
	"strings"
)

// BreakerReport is what a breaker's output says.
type BreakerReport struct {
	Oks        int64 // how often all memory has been found right
	Areas      []BreakerArea
	Ready, Bye bool
}

// BreakerArea is where a part of its memory was when it got ready, size in pages.
type BreakerArea struct{ Address, Pages int64 }

// JudgeBreaker reads the standard output of a breaker, from its first byte. The error is
// the first line that must not be: one that tells of damage, is missing or came twice. A
// last line that is cut off is not judged.
func JudgeBreaker(stdout string) (BreakerReport, error) {
	var r BreakerReport
	for line := range strings.Lines(stdout) {
		text, whole := strings.CutSuffix(line, "\n")
		if !whole {
			break
		}
		if err := r.judge(text); err != nil {
			return r, err
		}
	}
	return r, nil
}

func (r *BreakerReport) judge(line string) error {
	var a BreakerArea
	switch {
	case r.Bye:
	case r.Ready && line == fmt.Sprintf("ok %d", r.Oks+1):
		r.Oks++
		return nil
	case r.Ready && line == "bye":
		r.Bye = true
		return nil
	case !r.Ready && line == "ready":
		r.Ready = true
		return nil
	case !r.Ready && scanned(fmt.Sscanf(line, "area 0x%x %d", &a.Address, &a.Pages)):
		r.Areas = append(r.Areas, a)
		return nil
	}
	return fmt.Errorf("after ok %d the breaker says %q", r.Oks, line)
}

func scanned(_ int, err error) bool { return err == nil }
