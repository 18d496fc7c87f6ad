package fileaccess

import (
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// openLinks opens a directory of /proc: to look up each of its links from the top takes
// longer than all the rest.
func openLinks(dir string) (*os.File, error) {
	return os.OpenFile(dir, unix.O_PATH|unix.O_DIRECTORY, 0)
}

// add looks at what a magic link of /proc leads to, if that has a name.
func (c *collector) add(dir *os.File, name, by string, n need) error {
	fail := func(err error) error {
		return &os.PathError{Op: "look at", Path: dir.Name() + "/" + name, Err: err}
	}
	path, err := readLink(int(dir.Fd()), name)
	if err != nil {
		return fail(err)
	}
	if !strings.HasPrefix(path, "/") { // a pipe, a socket, something anonymous
		return nil
	}
	st, err := look(int(dir.Fd()), name, 0)
	if err != nil {
		return fail(err)
	}
	if skip, err := c.passes(dir, name, &st); skip || err != nil {
		return err
	}
	if n == asOpened {
		link, err := look(int(dir.Fd()), name, unix.AT_SYMLINK_NOFOLLOW)
		if err != nil {
			return fail(err)
		}
		n = opened(uint32(link.Mode))
	}
	return c.take(dir, name, held{
		file: file{path: path, device: device(&st), inode: st.Ino, need: n},
		by:   by, mode: uint32(st.Mode), links: st.Nlink, owner: st.Uid, open: -1,
	})
}

// passes tells what is not asked about.
func (c *collector) passes(dir *os.File, name string, st *unix.Statx_t) (bool, error) {
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
	return internal(dir.Name()+"/"+name, st)
}

// take keeps a file that has lost its name open: there is no other way to it, and only
// root may go this one.
func (c *collector) take(dir *os.File, name string, h held) (err error) {
	id := [2]uint64{h.device, h.inode}
	switch {
	case h.need == toExecute:
		c.program = id
	case h.need == toMap && id == c.program:
		h.need = toExecute
	case h.mode&unix.S_IFMT == unix.S_IFLNK:
		h.need = toReach
	}
	if c.seen[h.file] || h.links == 0 && h.owner == c.job.User.UID {
		return nil
	}
	c.seen[h.file] = true
	if h.nameless() {
		if h.open, err = unix.Openat(int(dir.Fd()), name, unix.O_PATH|unix.O_CLOEXEC, 0); err != nil {
			return &os.PathError{Op: "open", Path: dir.Name() + "/" + name, Err: err}
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
