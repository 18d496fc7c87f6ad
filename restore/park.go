package restore

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"github.com/migrate-hpc/migrate/carry/table"
	"github.com/migrate-hpc/migrate/criu"
	"github.com/migrate-hpc/migrate/criu/image"
	"github.com/migrate-hpc/migrate/logkey"
	"github.com/migrate-hpc/migrate/namespaces"
	"github.com/migrate-hpc/migrate/restore/uffd"
)

// fillWorkers is how many workers copy memory in the background.
const fillWorkers = 2

// Open prepares the restore of the job. From here on Put accepts pages, until EndPush says that
// all of them are of the freeze. The holder ends the job if this process dies before the job's
// memory is complete. Park or Discard follows.
func Open(ctx context.Context, plan Plan, keeper uffd.FDHolder) (*Parked, error) {
	defer plan.Follower.Close() // if it was of no use
	regions, err := image.Pagemaps(plan.Images)
	if err != nil {
		return nil, err
	}
	store, err := plan.Follower.Open(plan.Store)
	if err != nil {
		return nil, err
	}
	server, err := uffd.Listen(plan.Work)
	if err != nil {
		return nil, errors.Join(err, store.Close())
	}
	server.SetFDHolder(keeper)
	server.AllowIncomplete()
	p := &Parked{plan: plan, server: server, carried: table.Carried.Restorers(plan.env()), verdict: make(chan error), ended: make(chan struct{}), filled: make(chan error, 1)}
	p.ctx, p.stop = context.WithCancel(context.WithoutCancel(ctx))
	go func() {
		_, err := server.Serve(p.ctx, store, regions, fillWorkers)
		p.filled <- errors.Join(err, store.Close())
	}()
	return p, nil
}

// Park restores the job up to the point before its first instruction. This process becomes its
// parent. After an error nothing of the job is left.
func (p *Parked) Park(ctx context.Context, client *criu.Client, log *slog.Logger) error {
	p.log = log
	arrived := make(chan *namespaces.Process, 1)
	go func() {
		defer close(p.ended)
		p.err = p.restore(p.ctx, client, p.plan, arrived, log)
	}()
	select {
	case p.init = <-arrived:
		if err := p.server.Fill(); err != nil {
			return errors.Join(fmt.Errorf("restore: %w", err), p.Drop())
		}
		log.Info("job parked", logkey.PID, p.init.Pid)
		return nil
	case <-p.ended:
		err := p.err
		if err == nil {
			err = errors.New("CRIU finished without ever parking the job")
		}
		return errors.Join(fmt.Errorf("restore: %w", err), p.Discard())
	case <-ctx.Done():
		p.stop()
		<-p.ended
		return errors.Join(context.Cause(ctx), p.err, p.Discard())
	}
}
