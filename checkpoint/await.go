package checkpoint

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

func (s *Source) pidFile() string { return filepath.Join(s.Dir, "criu.pid") }

// notePid leaves a trace of the CRIU that dumps, for an agent that comes after us.
func (s *Source) notePid(pid int) {
	if err := os.WriteFile(s.pidFile(), []byte(strconv.Itoa(pid)), 0o600); err != nil {
		s.Log.Warn("the pid of CRIU could not be noted", "err", err)
	}
}

// awaitDump waits until the CRIU that was noted, if any, has ended.
func (s *Source) awaitDump(ctx context.Context) error {
	data, err := os.ReadFile(s.pidFile())
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for isCRIU(string(data)) {
		select {
		case <-ctx.Done():
			return fmt.Errorf("CRIU (pid %s) still holds the job: %w", data, context.Cause(ctx))
		case <-time.After(10 * time.Millisecond):
		}
	}
	return nil
}

// isCRIU tells whether a process is a living CRIU; its number may be another's by
// now.
func isCRIU(pid string) bool {
	stat, err := os.ReadFile(filepath.Join("/proc", pid, "stat"))
	if err != nil {
		return false
	}
	name, rest, _ := strings.Cut(string(stat), ") ")
	return strings.Contains(name, "criu") && !strings.HasPrefix(rest, "Z")
}
