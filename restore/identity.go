package restore

import (
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"github.com/migrate-hpc/migrate/criu/image"
	"github.com/migrate-hpc/migrate/identity"
	"github.com/migrate-hpc/migrate/namespaces/network"
)

// identityCheck is what the identity of the job's threads must be, and where. Package identity
// says when each part is checked.
type identityCheck struct {
	plan    Plan
	criuPID int          // CRIU, which works in the job's cgroup
	want    identity.Job // the source's record, or what the images say if there is none
	kernel  identity.Kernel
}

// identityFromImages reads the identity in the images before CRIU acts on them.
func (plan Plan) identityFromImages() (*identityCheck, error) {
	saved, err := image.Saved(plan.Images)
	if err != nil {
		return nil, fmt.Errorf("who the job's threads are: %w", err)
	}
	if err := plan.Rule.Check(saved); err != nil {
		return nil, notAllowed("by the images", err)
	}
	c := &identityCheck{plan: plan, want: saved}
	c.kernel, err = identity.ThisKernel()
	if err != nil {
		return nil, err
	}
	record, err := image.Identity(plan.Images)
	if errors.Is(err, image.ErrMissing) && !plan.Recorded {
		return c, nil // of a source that takes none
	}
	if err != nil {
		return nil, fmt.Errorf("the source's record of who the job's threads are: %w", err)
	}
	if err := identity.Compare(saved, record, identity.AnyKernel); err != nil {
		return nil, notAllowed("by the images", err)
	}
	c.want = record
	return c, nil
}

// checkParked is called when all of the job exists. Its threads are still root.
func (c *identityCheck) checkParked(init int) error {
	is, err := c.read(init)
	if err != nil {
		return err
	}
	return c.compare(is.Frame(), c.want.Frame())
}

// checkReady is called when nothing of the job has run and CRIU will set nothing any more.
func (c *identityCheck) checkReady(init int) error {
	is, err := c.read(init)
	if err != nil {
		return err
	}
	if err := c.plan.Rule.Check(is); err != nil {
		return notAllowed("", err)
	}
	return c.compare(is, c.want)
}

func (c *identityCheck) read(init int) (identity.Job, error) {
	is, err := c.place(init).Look()
	var d identity.Differences
	if errors.As(err, &d) {
		return is, notAllowed("", err)
	}
	if err != nil {
		return is, fmt.Errorf("who the job's threads are: %w", err)
	}
	return is, nil
}

func (c *identityCheck) place(init int) identity.Place {
	return identity.Place{Init: init, Cgroup: c.plan.RestoreEnv.Cgroup, Beside: c.criuPID, UserNS: c.plan.Rule.UserNS}
}

func (c *identityCheck) compare(is, want identity.Job) error {
	if err := identity.Compare(is, want, c.kernel); err != nil {
		return notAllowed("", err)
	}
	return nil
}

func notAllowed(by string, err error) error {
	if by != "" {
		by += ", "
	}
	return fmt.Errorf("the job would not be what its specification and the record of its source allow: %s%w. "+
		"Nothing of it has run here. If the images were not changed this is a fault of CRIU or of migrate: report it with the log of the restore", by, err)
}

// killRefused kills a job that CRIU is about to let go. A task with a pending SIGKILL never
// returns to its program. The link goes down first: the peers must not learn that sockets close.
// They belong to the job that goes on elsewhere.
func (c *identityCheck) killRefused() error {
	var errs []error
	if i := c.plan.Interface; i != nil {
		errs = append(errs, network.SetPort(i.Host, false))
	}
	return errors.Join(append(errs, c.killAll())...)
}

// killAll sends SIGKILL to all processes in the job's cgroup, and to CRIU last. Without CRIU its
// tracees would go on. With it alive PID 1 cannot end: it waits for tasks that only their tracer
// can collect. All tasks are frozen until then, so no task is added.
func (c *identityCheck) killAll() error {
	for end := time.Now().Add(sweepTime); ; time.Sleep(time.Millisecond) {
		left, err := c.kill()
		if err == nil && left == 0 {
			return unix.Kill(c.criuPID, unix.SIGKILL) // ours, and not waited for yet
		}
		if time.Now().After(end) {
			return errors.Join(err, errors.New("not all of the job could be killed"))
		}
	}
}

// kill returns how many processes it missed. It opens pidfds first. A pid that is listed
// afterwards belongs to its pidfd.
func (c *identityCheck) kill() (left int, err error) {
	fds := map[int]int{}
	defer func() {
		for _, fd := range fds {
			_ = unix.Close(fd) // a pidfd
		}
	}()
	pids, err := c.plan.RestoreEnv.Cgroup.Pids()
	if err != nil {
		return 0, err
	}
	for _, pid := range pids {
		if fd, err := unix.PidfdOpen(pid, 0); err == nil {
			fds[pid] = fd
		}
	}
	if pids, err = c.plan.RestoreEnv.Cgroup.Pids(); err != nil {
		return 0, err
	}
	for _, pid := range pids {
		fd, ok := fds[pid]
		switch {
		case pid == c.criuPID:
		case !ok:
			left++
		default:
			if kill := unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0); kill != nil && kill != unix.ESRCH {
				err = errors.Join(err, fmt.Errorf("kill process %d: %w", pid, kill))
			}
		}
	}
	return left, err
}
