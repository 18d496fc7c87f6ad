package restore

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"golang.org/x/sys/unix"

	"github.com/migrate-hpc/migrate/criu/image"
	"github.com/migrate-hpc/migrate/identity"
	"github.com/migrate-hpc/migrate/logkey"
	"github.com/migrate-hpc/migrate/namespaces/network"
)

// census is who the job's threads may be, and where. See package identity for when which of
// it is asked.
type census struct {
	plan   Plan
	beside int          // CRIU, which works in the job's cgroup
	want   identity.Job // the source's record, or what the images say if there is none
	kernel identity.Kernel
}

// saved looks at the images before CRIU acts on them.
func (plan Plan) saved() (*census, error) {
	saved, err := image.Saved(plan.Images)
	if err != nil {
		return nil, fmt.Errorf("who the job's threads are: %w", err)
	}
	if err := plan.Rule.Check(saved); err != nil {
		return nil, notAllowed("by the images", err)
	}
	c := &census{plan: plan, want: saved}
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

// parked is asked when all of the job is there, and where; its threads are still root.
func (c *census) parked(init int) error {
	is, err := c.look(init)
	if err != nil {
		return err
	}
	return c.compare(is.Frame(), c.want.Frame())
}

// ready is asked when nothing of the job has run and nothing will be set any more.
func (c *census) ready(init int) error {
	is, err := c.look(init)
	if err != nil {
		return err
	}
	if err := c.plan.Rule.Check(is); err != nil {
		return notAllowed("", err)
	}
	return c.compare(is, c.want)
}

func (c *census) look(init int) (identity.Job, error) {
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

func (c *census) place(init int) identity.Place {
	return identity.Place{Init: init, Cgroup: c.plan.RestoreEnv.Cgroup, Beside: c.beside, UserNS: c.plan.Rule.UserNS}
}

func (c *census) compare(is, want identity.Job) error {
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
		"Nothing of it has run here. Where nobody has touched the images this is a fault of CRIU or of migrate: report it with the log of the restore", by, err)
}

// refuse ends a job that CRIU is about to let go, whatever it is answered: a task that has
// SIGKILL pending never returns to its program. The link goes first, so that nobody hears
// of sockets that are closed: their peers belong to the job that goes on elsewhere.
func (c *census) refuse() error {
	var errs []error
	if i := c.plan.Interface; i != nil {
		errs = append(errs, network.SetPort(i.Host, false))
	}
	return errors.Join(append(errs, c.killAll())...)
}

// killAll sends SIGKILL to all that is in the job's cgroup. CRIU is the last: its tracees go
// on when it is gone. It would wait for PID 1 otherwise, which waits for tasks that only
// their tracer, CRIU, can collect. All of them are frozen until then, so none comes.
func (c *census) killAll() error {
	for end := time.Now().Add(sweepTime); ; time.Sleep(time.Millisecond) {
		left, err := c.kill()
		if err == nil && left == 0 {
			return unix.Kill(c.beside, unix.SIGKILL) // ours, and not waited for yet
		}
		if time.Now().After(end) {
			return errors.Join(err, errors.New("not all of the job could be killed"))
		}
	}
}

// kill tells how many it did not get hold of. It takes descriptors: who is still listed when
// they are open is who they are of.
func (c *census) kill() (left int, err error) {
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
		case pid == c.beside:
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

// letGo is the last moment before the job runs, whatever is answered, unless it is killed.
// Names lead to it from here on; it runs on without them rather than not at all.
func (p *Parked) letGo(ctx context.Context, who *census, init int, log *slog.Logger) error {
	if err := who.ready(init); err != nil {
		return errors.Join(err, who.refuse())
	}
	if err := p.names.take(); err != nil {
		log.Error("the job runs, but not all of its Unix sockets have their names", logkey.Err, err)
	}
	p.names = nil
	p.let.Store(ctx.Err() == nil)
	return nil
}
