package preflight

import (
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/migrate-hpc/migrate/procfs"
)

// readNetlink finds netlink sockets of a process in which something waits to be read.
func (h openFiles) readNetlink(list []descriptor) error {
	if !slices.ContainsFunc(list, func(d descriptor) bool { return d.Proto == netlinkProto }) {
		return nil
	}
	text, err := os.ReadFile(h.proc("net/netlink"))
	if procfs.IsGone(err) {
		return nil
	}
	unread := unreadNetlink(string(text))
	for i, d := range list {
		list[i].Unread = d.Proto == netlinkProto && unread[d.Ino]
	}
	return err
}

const netlinkProto = "NETLINK"

// unreadNetlink reads the inodes of such sockets from the text of /proc/net/netlink.
func unreadNetlink(text string) map[uint64]bool {
	const rmem, inode = 4, 9 // columns
	unread := map[uint64]bool{}
	for line := range strings.Lines(text) {
		f := strings.Fields(line)
		if len(f) <= inode {
			continue
		}
		waits, err := strconv.ParseUint(f[rmem], 10, 64)
		ino, err2 := strconv.ParseUint(f[inode], 10, 64)
		if err == nil && err2 == nil && waits > 0 {
			unread[ino] = true
		}
	}
	return unread
}
