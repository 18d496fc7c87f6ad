package agent

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"

	"github.com/migrate-hpc/migrate/logkey"

	"golang.org/x/sync/errgroup"

	"github.com/migrate-hpc/migrate/agent/caller"
	"github.com/migrate-hpc/migrate/agent/node"
	"github.com/migrate-hpc/migrate/agent/peer"
	"github.com/migrate-hpc/migrate/agent/server"
	"github.com/migrate-hpc/migrate/agent/target"
	"github.com/migrate-hpc/migrate/agent/transfer"
	"github.com/migrate-hpc/migrate/safepath"
	"github.com/migrate-hpc/migrate/transport"
)

// Run is an agent's life: it recovers what an earlier one left, serves until ctx
// ends, and leaves every job as it is.
func Run(ctx context.Context, cfg node.Config) error {
	a, err := node.Open(cfg)
	if err != nil {
		return err
	}
	defer a.Journal.Close()
	if err := target.CloseFaultAccess(); err != nil {
		return err
	}
	group, ctx := errgroup.WithContext(ctx)
	a.Life = ctx
	t := transfer.New(a)
	srv := server.New(t)
	local, err := listenLocal(a.Config.Socket)
	if err != nil {
		return err
	}
	raw, err := net.Listen("tcp", cfg.Listen)
	if err != nil {
		return errors.Join(fmt.Errorf("listen for peers: %w", err), local.Close())
	}
	peers := transport.NewListener(raw, a.Identity, a.Log, transport.WithFeatures(peer.FeatureIdentity, peer.FeatureThreads, peer.FeatureRecheck, peer.FeatureNested))
	t.Recovery.SweepVolatile(ctx)
	if err := t.Sources.UnthrottleAll(); err != nil {
		a.Log.Warn("a job may be slowed down still, from a move with --throttle", logkey.Err, err)
	}
	t.Launcher.InstallPortFilters()
	t.Recovery.Recover(ctx)
	t.Arrivals.TellPeers()
	t.Copies.PayAllDebts()
	a.Background.Go(func() { t.Copies.ListenForNews(ctx) })
	a.Log.Info("agent ready", logkey.Listen, peers.Addr().String(), logkey.Socket, a.Config.Socket, logkey.CRIU, a.CRIUPath)

	group.Go(func() error {
		return server.Serve(ctx, caller.NewConnLimit(local, caller.MostConnections), srv.LocalHandler(), caller.FromSocket)
	})
	group.Go(func() error { return server.Serve(ctx, peers.HTTP(), srv.PeerHandler(), nil) })
	group.Go(func() error { return t.Arrivals.AcceptMoves(ctx, peers) })
	a.Background.Go(func() { t.Launcher.TrimOutput(ctx) })
	group.Go(func() error {
		<-ctx.Done()
		return peers.Close()
	})
	err = group.Wait()
	a.Background.Wait()
	if ctx.Err() != nil && errors.Is(err, context.Canceled) {
		err = nil
	}
	return err
}

// listenLocal opens the socket for users. All users may connect; who they are
// decides what they may do.
func listenLocal(path string) (net.Listener, error) {
	if err := safepath.Check(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, node.OnlyRootHint(err, "--socket")
	}
	if c, err := net.Dial("unix", path); err == nil {
		_ = c.Close()
		return nil, fmt.Errorf("an agent is running behind %s already", path)
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		return nil, fmt.Errorf("listen for users: %w", err)
	}
	return l, os.Chmod(path, 0o666)
}
