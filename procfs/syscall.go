package procfs

import (
	"fmt"
	"os"
	"strconv"
	"strings"
)

// Syscall is where a thread is, as the kernel tells it.
type Syscall struct {
	Number        int    // of the system call in which it sleeps; -1: none
	First, Second uint64 // its arguments
	Stack         uint64 // the stack pointer; 0: the thread runs
}

// ReadSyscall reads /proc/PID/task/TID/syscall.
func ReadSyscall(pid, tid int) (Syscall, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/syscall", pid, tid))
	if err != nil {
		return Syscall{}, err
	}
	return ParseSyscall(string(text)), nil
}

// ParseSyscall parses the text of syscall. It is "running", or the number of the call, its six
// arguments, the stack pointer and the program counter. Outside of a call the number is -1, without
// arguments.
func ParseSyscall(text string) Syscall {
	f := strings.Fields(text)
	if len(f) < 3 {
		return Syscall{Number: -1}
	}
	call, err := strconv.Atoi(f[0])
	if err != nil {
		return Syscall{Number: -1}
	}
	at := Syscall{Number: call}
	at.Stack, _ = strconv.ParseUint(f[len(f)-2], 0, 64)
	if call >= 0 && len(f) > 4 {
		at.First, _ = strconv.ParseUint(f[1], 0, 64)
		at.Second, _ = strconv.ParseUint(f[2], 0, 64)
	}
	return at
}
