package restore

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"github.com/migrate-hpc/migrate/criu/image"
	"github.com/migrate-hpc/migrate/fileaccess"
)

// checkAccess refuses a restored job that holds what its user could not open here. CRIU opens
// files as root. The check comes when all of the job exists and none of it has run.
func (plan Plan) checkAccess(init int) error {
	if plan.RestoreEnv.User.UID == 0 {
		return nil
	}
	passing, err := image.Passing(plan.Images)
	if err != nil {
		return err
	}
	if passing > 0 { // no task holds them, and CRIU has opened them all the same
		return fmt.Errorf("%d descriptors of files are on their way in a Unix socket of the job (SCM_RIGHTS). Whether its user could open them cannot be checked there. "+
			"Try again when the job has received them", passing)
	}
	pids, err := plan.jobPIDs(init)
	if err != nil {
		return err
	}
	binds := make([]string, len(plan.Binds))
	for i, b := range plan.Binds {
		binds[i] = b.Target
	}
	var log unix.Stat_t
	if err := unix.Stat(plan.log(), &log); err != nil {
		return &os.PathError{Op: "stat", Path: plan.log(), Err: err}
	}
	denied, err := fileaccess.Check(fileaccess.Job{Init: init, Pids: pids, User: plan.RestoreEnv.User, Binds: binds,
		Mine: func(device, inode uint64) bool { return device == log.Dev && inode == log.Ino }})
	if err != nil {
		return fmt.Errorf("check the rights to what the job holds: %w", err)
	}
	if len(denied) == 0 {
		return nil
	}
	more := ""
	if n := len(denied) - 1; n > 0 {
		more = fmt.Sprintf("; and %d more", n)
	}
	return fmt.Errorf("the job would hold what its user could not open on this node: %w%s. "+
		"Have the path lead to the job's own file, and give the user the right to it and to the directories above (`namei -l PATH` shows who may pass), or have the job close it", denied[0], more)
}

// jobPIDs are the tasks in the job's cgroup without those of CRIU, which are in another pid
// namespace.
func (plan Plan) jobPIDs(init int) (pids []int, err error) {
	all, err := plan.RestoreEnv.Cgroup.Pids()
	if err != nil {
		return nil, err
	}
	space := func(pid int) (string, error) { return os.Readlink(fmt.Sprintf("/proc/%d/ns/pid", pid)) }
	ours, err := space(init)
	if err != nil {
		return nil, err
	}
	for _, pid := range all {
		theirs, err := space(pid)
		if err != nil && !errors.Is(err, os.ErrNotExist) && !errors.Is(err, unix.ESRCH) {
			return nil, err
		}
		if theirs == ours {
			pids = append(pids, pid)
		}
	}
	return pids, nil
}
