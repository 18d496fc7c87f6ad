package image

import (
	"fmt"
	"path"
	"path/filepath"
	"strings"

	"github.com/checkpoint-restore/go-criu/v7/crit/images/mnt"
)

// nestedMounts translates paths of mount namespaces inside the job's own.
type nestedMounts struct {
	own    []*mnt.MntEntry         // of PID 1
	nested map[int32]*mnt.MntEntry // by their number
}

// nestedMountsOf reads nothing for a job with one mount namespace.
func nestedMountsOf(dir string) (n nestedMounts, err error) {
	spaces, err := mountSpacesOf(dir)
	if err != nil || len(spaces) < 2 {
		return n, err
	}
	own, err := ownMountSpace(dir)
	if err != nil {
		return n, err
	}
	n.nested = map[int32]*mnt.MntEntry{}
	for _, s := range spaces {
		if filepath.Base(s.file) == own {
			n.own = s.mounts
			continue
		}
		for _, m := range s.mounts {
			n.nested[int32(m.GetMntId())] = m
		}
	}
	if n.own == nil {
		return n, fmt.Errorf("%s: %w", own, ErrMissing)
	}
	return n, nil
}

// inJob is the path in PID 1's mounts of what a name leads to that is on a mount. It reports false
// if nothing there leads to it.
func (n nestedMounts) inJob(mount int32, name string) (string, bool) {
	m := n.nested[mount]
	if m == nil {
		return name, true
	}
	beneath, ok := cutDir(name, m.GetMountpoint())
	for _, own := range n.own {
		if own.GetRootDev() != m.GetRootDev() || !ok {
			continue
		}
		if part, is := cutDir(m.GetRoot(), own.GetRoot()); is {
			return path.Join(own.GetMountpoint(), part, beneath), true
		}
	}
	return "", false
}

// cutDir cuts the directory off a path.
func cutDir(name, dir string) (rest string, ok bool) {
	name, dir = path.Clean(name), path.Clean(dir)
	if name == dir || dir == "/" {
		return strings.TrimPrefix(name, dir), true
	}
	return strings.CutPrefix(name, dir+"/")
}
