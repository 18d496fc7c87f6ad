package procfs

import (
	"os"
	"slices"
	"strconv"
)

// Numbers returns the names in a directory that are numbers, ascending: the processes in /proc, the
// threads in /proc/PID/task.
func Numbers(dir string) ([]int, error) {
	f, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	return NumbersIn(f)
}

// NumbersIn is [Numbers] of an open directory, which it closes.
func NumbersIn(dir *os.File) ([]int, error) {
	defer dir.Close()
	names, err := dir.Readdirnames(-1)
	if err != nil {
		return nil, err
	}
	var list []int
	for _, name := range names {
		if n, err := strconv.Atoi(name); err == nil {
			list = append(list, n)
		}
	}
	slices.Sort(list)
	return list, nil
}
