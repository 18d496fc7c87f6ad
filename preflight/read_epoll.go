package preflight

import (
	"errors"
	"os"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/migrate-hpc/migrate/linux"
	"github.com/migrate-hpc/migrate/procfs"
)

// readEpolls finds what epolls of a process watch that the process does not have. CRIU looks for
// it in the same process only (see dump_one_eventpoll in its eventpoll.c).
func (h openFiles) readEpolls(list []descriptor) error {
	byInode := map[uint64][]int{}
	for _, d := range list {
		if d.Number >= 0 {
			byInode[d.Ino] = append(byInode[d.Ino], d.Number)
		}
	}
	for i, d := range list {
		if d.Link != "anon_inode:[eventpoll]" || d.Number < 0 {
			continue
		}
		text, err := os.ReadFile(h.proc("fdinfo/" + strconv.Itoa(d.Number)))
		if procfs.IsGone(err) {
			continue
		}
		if err != nil {
			return err
		}
		list[i].Absent = h.absent(d.Number, string(text), byInode)
	}
	return nil
}

// absent lists the numbers under which an epoll watches what is no descriptor of the process.
func (h openFiles) absent(epoll int, info string, byInode map[uint64][]int) (numbers []string) {
	nth := map[int]int{}
	for line := range strings.Lines(info) {
		number, ino, ok := parseWatched(line)
		if !ok {
			continue
		}
		if !h.hasWatched(epoll, number, nth[number], byInode[ino]) {
			numbers = append(numbers, strconv.Itoa(number))
		}
		nth[number]++
	}
	return numbers
}

// hasWatched asks the kernel about descriptors of the same inode: both ends of a pipe have one. What
// it does not tell counts as had.
func (h openFiles) hasWatched(epoll, number, nth int, candidates []int) bool {
	const most = 1000 // descriptors to ask about: all anonymous ones have one inode
	if slices.Contains(candidates, number) {
		candidates = append([]int{number}, candidates...)
	}
	for i, fd := range candidates {
		if i == most {
			return true
		}
		if is, err := linux.IsWatched(h.pid, fd, epoll, number, nth); is || err != nil && !errors.Is(err, unix.EBADF) {
			return true
		}
	}
	return false
}

// parseWatched reads a line "tfd: 5 events: 19 data: 7 pos:0 ino:61af sdev:7" of an epoll's fdinfo.
func parseWatched(line string) (number int, ino uint64, ok bool) {
	f := strings.Fields(line)
	if len(f) < 2 || f[0] != "tfd:" {
		return 0, 0, false
	}
	number, err := strconv.Atoi(f[1])
	if err != nil {
		return 0, 0, false
	}
	for _, word := range f[2:] {
		if hex, is := strings.CutPrefix(word, "ino:"); is {
			ino, err := strconv.ParseUint(hex, 16, 64)
			return number, ino, err == nil
		}
	}
	return 0, 0, false
}
