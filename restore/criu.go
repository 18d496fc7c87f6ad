package restore

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"

	"golang.org/x/sys/unix"

	"github.com/migrate-hpc/migrate/carry"
	"github.com/migrate-hpc/migrate/criu"
	"github.com/migrate-hpc/migrate/criu/image"
	"github.com/migrate-hpc/migrate/logkey"
	"github.com/migrate-hpc/migrate/namespaces"
	"github.com/migrate-hpc/migrate/namespaces/network"
)

// restore runs CRIU to its end, which is after the verdict.
func (p *Parked) restore(ctx context.Context, client *criu.Client, plan Plan, arrived chan<- *namespaces.Process, log *slog.Logger) error {
	defer plan.Prestarted.Close() // if it was of no use
	who, err := plan.identityFromImages()
	if err != nil {
		return err
	}
	mode, err := image.NetworkOf(plan.Images)
	if err != nil {
		return err
	}
	if i := plan.Interface; i != nil && !network.BridgeExists(i.Bridge) {
		return fmt.Errorf("there is no bridge %s", i.Bridge)
	}
	req, run, err := plan.request(mode)
	if err != nil {
		return err
	}
	defer func() {
		for _, f := range run.dirs {
			_ = f.Close() // opened for reading only
		}
	}()
	ready, err := plan.prestartedFor(ctx, client, mode)
	if err != nil {
		return err
	}
	defer ready.Close()
	who.criuPID = ready.criu.Pid()
	run.Notify = p.notify(mode, who, arrived, log)
	if err := each(p.carried, carry.Restorer.Prepare); err != nil {
		return err
	}
	_, err = ready.criu.Do(ctx, req, run.Run)
	return err
}

// notify handles CRIU's notifications. In the last one it waits for the verdict, before the tasks
// are let go.
func (p *Parked) notify(mode image.Network, who *identityCheck, arrived chan<- *namespaces.Process, log *slog.Logger) func(context.Context, string, int) error {
	init := 0
	return func(ctx context.Context, name string, pid int) error {
		switch name {
		case "setup-namespaces":
			init = pid
			if mode != image.NetworkSaved {
				if err := network.SetUp(pid, p.plan.Interface); err != nil {
					return err
				}
			}
			return each(p.carried, func(r carry.Restorer) error { return r.NamespacesMade(pid) })
		case "post-setup-namespaces": // limits set, nothing opened yet
			if err := p.lockNetwork(init); err != nil {
				return err
			}
			return each(p.carried, func(r carry.Restorer) error { return r.NamespacesReady(init) })
		case "post-restore":
			init = pid
			held, err := namespaces.OpenProcess(pid)
			if err != nil {
				return err
			}
			if err := errors.Join(who.checkParked(pid), p.plan.checkAccess(pid)); err != nil {
				return err
			}
			if mode == image.NetworkSaved && p.plan.Interface != nil {
				if err := p.plan.Interface.SetHostUp(); err != nil {
					return err
				}
			}
			if err := each(p.carried, carry.Restorer.Parked); err != nil {
				return err
			}
			if err := p.prepareMend(who.criuPID); err != nil {
				return err
			}
			arrived <- held
			return p.await(ctx, pid, log)
		case "pre-resume":
			return p.release(ctx, who, init, log)
		}
		return nil
	}
}

// await returns the verdict.
func (p *Parked) await(ctx context.Context, pid int, log *slog.Logger) error {
	select {
	case err := <-p.verdict:
		if err == nil {
			p.connectNetwork(pid, log)
		}
		return err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// prestartedFor returns a CRIU whose environment suits the network mode. It is the prestarted one
// if the job's network is carried as expected, otherwise a new one.
func (plan Plan) prestartedFor(ctx context.Context, client *criu.Client, mode image.Network) (*PrestartedCRIU, error) {
	env, s := plan.RestoreEnv, plan.Prestarted
	env.Network = mode == image.NetworkInherited
	if s == nil || s.network != env.Network {
		s.Close()
		var err error
		if s, err = PrestartCRIU(ctx, client, env); err != nil {
			return nil, err
		}
	}
	if err := s.attach(plan); err != nil {
		s.Close()
		return nil, err
	}
	return s, nil
}

// attach attaches detached mounts where CRIU sees them.
func (s *PrestartedCRIU) attach(plan Plan) error {
	if _, err := io.Copy(io.Discard, s.entered); err != nil {
		return fmt.Errorf("wait for CRIU to enter its environment: %w", err)
	}
	mounts := map[string]*os.File{}
	defer func() {
		for _, f := range mounts {
			_ = f.Close() // nothing was written
		}
	}()
	for _, m := range plan.Private {
		f, err := os.OpenFile(m.Path, unix.O_PATH, 0)
		if err != nil {
			return err
		}
		mounts[m.Dir] = f
	}
	for _, b := range plan.Binds {
		f, err := b.OpenDetached(plan.RestoreEnv.User)
		if err != nil {
			return err
		}
		mounts[b.Dir] = f
	}
	return namespaces.AttachMounts(s.criu.Pid(), mounts)
}

// release is the last moment before the job runs. After it only SIGKILL stops the job, whatever
// the callback returns. From here on what was carried is the job's. After an error of a resource
// the job runs on without it.
func (p *Parked) release(ctx context.Context, who *identityCheck, init int, log *slog.Logger) error {
	err := who.checkReady(init)
	if err == nil {
		err = p.freezeToMend(ctx)
	}
	if err != nil {
		return errors.Join(err, who.killRefused())
	}
	if err := every(p.carried, carry.Restorer.Commit); err != nil {
		log.Error("the job runs, but lacks some of what it had", logkey.Err, err)
	}
	p.carried = nil
	p.released.Store(ctx.Err() == nil)
	return nil
}
