package rights

import (
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// needs says what a user needs to have a file open whose link in /proc has this mode.
type needs func(mode uint32) need

func always(n need) needs { return func(uint32) need { return n } }

// add looks at what a magic link of /proc leads to, if that has a name.
func (c *collector) add(at, by string, n needs) error {
	path, err := os.Readlink(at)
	if err != nil || !strings.HasPrefix(path, "/") { // a pipe, a socket, something anonymous
		return err
	}
	var link unix.Stat_t
	if err := retry(func() error { return unix.Lstat(at, &link) }); err != nil {
		return &os.PathError{Op: "lstat", Path: at, Err: err}
	}
	st, err := look(unix.AT_FDCWD, at, 0)
	if err != nil {
		return &os.PathError{Op: "statx", Path: at, Err: err}
	}
	if skip, err := c.passes(at, st); skip || err != nil {
		return err
	}
	return c.take(at, held{
		file: file{path: path, device: device(st), inode: st.Ino, need: n(link.Mode)},
		by:   by, mode: uint32(st.Mode), links: st.Nlink, owner: st.Uid, open: -1,
	})
}

// passes tells what is not asked about.
func (c *collector) passes(at string, st *unix.Statx_t) (bool, error) {
	where := ofNode
	if st.Mask&unix.STATX_MNT_ID != 0 { // Linux 5.8
		where = c.mounts[st.Mnt_id]
	}
	if where != nowhere {
		return where == own, nil
	}
	if c.job.Mine != nil && c.job.Mine(device(st), st.Ino) {
		return true, nil
	}
	return internal(at, st)
}

// take keeps a file that has lost its name open: there is no other way to it, and only
// root may go this one.
func (c *collector) take(at string, h held) (err error) {
	id := [2]uint64{h.device, h.inode}
	switch {
	case h.need == toExecute:
		c.runs[id] = true
	case h.need == toMap && c.runs[id]:
		h.need = toExecute
	case h.mode&unix.S_IFMT == unix.S_IFLNK:
		h.need = toReach
	}
	if c.seen[h.file] || h.links == 0 && h.owner == c.job.User.UID {
		return nil
	}
	c.seen[h.file] = true
	if h.nameless() {
		if h.open, err = unix.Open(at, unix.O_PATH|unix.O_CLOEXEC, 0); err != nil {
			return &os.PathError{Op: "open", Path: at, Err: err}
		}
	}
	c.files = append(c.files, h)
	return nil
}

func (c *collector) close() {
	for _, f := range c.files {
		if f.open >= 0 {
			_ = unix.Close(f.open) // O_PATH
		}
	}
}
