package fileaccess

import (
	"errors"
	"fmt"
	"path"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/migrate-hpc/migrate/procfs"
)

// need is what the user must be allowed to do with a file that he gets to: 0 or more of
// unix.R_OK and W_OK, or one of the others.
type need uint32

const (
	toReach   need = 0
	toExecute need = 1 << 8  // or read
	toMap     need = 1 << 9  // read, unless it is the task's program
	asOpened  need = 1 << 10 // is not known yet
)

// opened reads the rights of a descriptor off the mode of its link in /proc, which has
// none for O_PATH.
func opened(mode uint32) (n need) {
	if mode&unix.S_IRUSR != 0 {
		n |= unix.R_OK
	}
	if mode&unix.S_IWUSR != 0 {
		n |= unix.W_OK
	}
	return n
}

func (n need) String() string {
	switch n {
	case unix.R_OK, toMap:
		return "read"
	case unix.W_OK:
		return "write"
	case toExecute:
		return "execute"
	}
	return "read and write"
}

// allowed asks, as the user, what may be done with what an O_PATH descriptor stands for.
func (n need) allowed(fd int) error {
	switch n {
	case toReach:
		return nil
	case toExecute:
		if access(fd, unix.X_OK) == nil {
			return nil
		}
		return access(fd, unix.R_OK)
	case toMap:
		return access(fd, unix.R_OK)
	}
	return access(fd, uint32(n))
}

// file is a file with a right to it.
type file struct {
	path          string // as the job sees it
	device, inode uint64
	need          need
}

// held is a file that a task holds.
type held struct {
	file
	by    string
	mode  uint32 // st_mode
	links uint32
	owner uint32
	open  int // of one that is nameless, by O_PATH; else -1
}

func (h held) nameless() bool { return h.links == 0 || strings.HasSuffix(h.path, procfs.Deleted) }

// judge is asked on a thread that has the user's rights.
func (h held) judge(root int, uid uint32) error {
	fd, err := find(root, h.path, h.mode)
	if err == nil {
		defer unix.Close(fd)
		if err = h.is(fd); err == nil {
			return h.usable(fd, uid)
		}
	}
	switch {
	case h.open >= 0 && h.links == 0:
		return h.usable(h.open, uid)
	case h.open >= 0:
		// With the dot the user must be able to pass the directory, not only reach it.
		if fd, err := find(root, path.Dir(h.path)+"/.", unix.S_IFDIR); err == nil {
			_ = unix.Close(fd) // O_PATH
			return h.usable(h.open, uid)
		}
	}
	if errors.Is(err, ErrOther) {
		return err
	}
	return fmt.Errorf("user %d does not get there: %w", uid, err)
}

// is compares what two descriptors lead to in the same way, whatever a file system makes
// of device numbers.
func (h held) is(fd int) error {
	st, err := look(fd, "", unix.AT_EMPTY_PATH)
	if err != nil {
		return err
	}
	if device(&st) != h.device || st.Ino != h.inode {
		return ErrOther
	}
	return nil
}

func (h held) usable(fd int, uid uint32) error {
	if h.owner == uid {
		return nil
	}
	if err := h.need.allowed(fd); err != nil {
		return fmt.Errorf("user %d may not %v it: %w", uid, h.need, err)
	}
	return nil
}
