package procfs

import (
	"fmt"
	"os"
	"strconv"
	"strings"
)

// Stat is what /proc/PID/stat says of a process.
type Stat struct {
	State byte   // 'Z' and 'X' have ended, 'T' a signal has stopped; see proc_pid_stat(5)
	Flags uint64 // of the kernel, PF_* of include/linux/sched.h
	Began uint64 // in clock ticks since the boot: with the pid it tells the process from all others
}

// Ended tells whether the process has ended, and its parent has only not reaped it yet.
func (s Stat) Ended() bool { return s.State == 'Z' || s.State == 'X' }

// ReadStat reads /proc/PID/stat.
func ReadStat(pid int) (Stat, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return Stat{}, err
	}
	return ParseStat(string(text))
}

// ParseStat parses the text of stat. Field 2, the name, is in parentheses and may hold anything;
// behind it the state is field 3, the flags field 9, and the begin field 22.
func ParseStat(text string) (s Stat, err error) {
	name := strings.LastIndexByte(text, ')')
	fields := strings.Fields(text[name+1:])
	if name < 0 || len(fields) < 20 || len(fields[0]) != 1 {
		return s, fmt.Errorf("stat is not understood: %.200q", text)
	}
	s.State = fields[0][0]
	if s.Flags, err = strconv.ParseUint(fields[6], 10, 64); err != nil {
		return s, fmt.Errorf("flags of the process: %w", err)
	}
	if s.Began, err = strconv.ParseUint(fields[19], 10, 64); err != nil {
		return s, fmt.Errorf("begin of the process: %w", err)
	}
	return s, nil
}
