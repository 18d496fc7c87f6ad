package fileaccess

import (
	"context"
	"os"

	"golang.org/x/sys/unix"

	"github.com/migrate-hpc/migrate/osthread"
)

// Wish is to have a file of the node open.
type Wish struct {
	Path   string
	Mode   uint32 // st_mode, for the type
	Access uint32 // as access(2) takes it; unix.X_OK: to execute it
}

func (w Wish) need() need {
	if n := need(w.Access & (unix.R_OK | unix.W_OK)); n != 0 {
		return n
	}
	if w.Access&unix.X_OK != 0 {
		return toExecute
	}
	return toReach
}

// Ask tells which wishes the user's own rights do not grant, and why. Of those of root's
// it tells none.
func Ask(ctx context.Context, user osthread.User, wishes []Wish, refused func(i int, err error)) error {
	if user.UID == 0 {
		return nil
	}
	root, err := os.OpenFile("/", unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		return err
	}
	defer root.Close()
	return osthread.As(user, func() error {
		for i, w := range wishes {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			if err := w.grant(int(root.Fd()), user.UID); err != nil {
				refused(i, err)
			}
		}
		return nil
	})
}

func (w Wish) grant(root int, uid uint32) error {
	fd, err := find(root, w.Path, w.Mode)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	st, err := look(fd, "", unix.AT_EMPTY_PATH)
	if err != nil {
		return err
	}
	return held{file: file{need: w.need()}, owner: st.Uid}.usable(fd, uid)
}
