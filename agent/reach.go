package agent

import (
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/migrate-hpc/migrate/job"
	"github.com/migrate-hpc/migrate/preflight"
)

// reachable tells early, and in good words, that the caller cannot reach by itself every
// path of the node that is to be bound. What holds is that the paths are looked up as that
// user once more when they are bound; see namespaces.Mount.Take.
func reachable(c caller, s job.Spec) error {
	if c.root() {
		return nil
	}
	var paths []string
	if s.Root != "" {
		paths = append(paths, s.Root)
	}
	for _, b := range s.Binds {
		paths = append(paths, b.Source)
	}
	return asCaller(c, func() error { return reachAs(paths) })
}

func reachAs(paths []string) error {
	for _, p := range paths {
		how := unix.OpenHow{Flags: unix.O_PATH | unix.O_CLOEXEC, Resolve: unix.RESOLVE_NO_MAGICLINKS}
		fd, err := unix.Openat2(unix.AT_FDCWD, p, &how)
		if err != nil {
			return fmt.Errorf("you cannot reach %s: %w", p, err)
		}
		if err := unix.Close(fd); err != nil {
			return err
		}
	}
	return nil
}

// unreachable says which paths the job's user, on this node, cannot reach.
func unreachable(s job.Spec) []preflight.Finding {
	err := reachable(ownerOf(s), s)
	if err == nil {
		return nil
	}
	return []preflight.Finding{{
		Code: preflight.MountMissing, Cause: fmt.Sprintf("on this node user %d does not get to what the job has bound: %v", s.UID, err),
		Remedy: "make it and the directories above it the same on both nodes; `namei -l PATH` shows who may pass",
	}}
}
