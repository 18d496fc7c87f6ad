package launch

import (
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/migrate-hpc/migrate/agent/caller"
	"github.com/migrate-hpc/migrate/job"
	"github.com/migrate-hpc/migrate/linux"
	"github.com/migrate-hpc/migrate/preflight"
)

// CheckReachable fails early, with a clear message, if the caller cannot reach a path of the node
// that is to be bound. The check that counts comes later: the mount looks the paths up as that
// user once more; see namespaces.Mount.Take.
func CheckReachable(c caller.Caller, s job.Spec) error {
	if c.Root() {
		return nil
	}
	var paths []string
	if s.Root != "" {
		paths = append(paths, s.Root)
	}
	for _, b := range s.Binds {
		paths = append(paths, b.Source)
	}
	return caller.As(c, func() error { return openEach(paths) })
}

func openEach(paths []string) error {
	for _, p := range paths {
		fd, err := linux.Openat2(unix.AT_FDCWD, p, unix.O_PATH, unix.RESOLVE_NO_MAGICLINKS)
		if err != nil {
			return fmt.Errorf("you cannot reach %s: %w", p, err)
		}
		if err := unix.Close(fd); err != nil {
			return err
		}
	}
	return nil
}

// UnreachableFindings is preflight's finding for a bound path that the job's user cannot reach on this
// node.
func UnreachableFindings(s job.Spec) []preflight.Finding {
	err := CheckReachable(caller.OwnerOf(s), s)
	if err == nil {
		return nil
	}
	return []preflight.Finding{{
		Code: preflight.MountMissing, Cause: fmt.Sprintf("on this node user %d does not get to what the job has bound: %v", s.UID, err),
		Remedy: "make it and the directories above it the same on both nodes; `namei -l PATH` shows who may pass",
	}}
}
