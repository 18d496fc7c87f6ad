package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/migrate-hpc/migrate/criu"
	"github.com/migrate-hpc/migrate/handoff"
	"github.com/migrate-hpc/migrate/job"
	"github.com/migrate-hpc/migrate/namespaces"
	"github.com/migrate-hpc/migrate/output"
	"github.com/migrate-hpc/migrate/safepath"
	"github.com/migrate-hpc/migrate/shim"
	"github.com/migrate-hpc/migrate/transport"
	"github.com/migrate-hpc/migrate/transport/pki"
)

// Agent is a node's agent.
type Agent struct {
	cfg      Config
	paths    paths
	log      *slog.Logger
	id       *pki.Identity
	jobs     *job.Store
	journal  *handoff.Journal
	fence    *handoff.Fence
	records  *moveRecords
	criuPath string
	boot     string

	mu       sync.Mutex
	moves    map[job.ID]*activeMove // what leaves; a job moves once at a time
	arrivals map[handoff.MoveID]*arrival
	pulls    map[handoff.MoveID]*transport.Session // by which memory comes that was not sent
	starting map[uint32]int                        // jobs that are not known yet, by user

	bodies, looks, visits *share // of callers
	usage                 *output.Usage

	addresses sync.Mutex // held from the comparison of a job's address with others until it is claimed

	// endRunning ends a copy that runs, where it came from known.
	endRunning func(ctx context.Context, rec job.Record, move string, from origin) error

	granting sync.Mutex // what this node knows of a job stays so while it is held; see mayrestore.go

	turns turns // of moves
	gates gates
	ids   idRanges
	pace  *pace

	background sync.WaitGroup
	life       context.Context // ends with Run
}

// Run is an agent's life: it recovers what an earlier one left, serves until ctx
// ends, and leaves every job as it is.
func Run(ctx context.Context, cfg Config) error {
	a, err := open(cfg)
	if err != nil {
		return err
	}
	defer a.journal.Close()
	group, ctx := errgroup.WithContext(ctx)
	a.life = ctx
	local, err := listenLocal(a.cfg.Socket)
	if err != nil {
		return err
	}
	raw, err := net.Listen("tcp", cfg.Listen)
	if err != nil {
		return errors.Join(fmt.Errorf("listen for peers: %w", err), local.Close())
	}
	peers := transport.NewListener(raw, a.id, a.log, transport.WithFeatures(featureIdentity))
	a.sweepVolatile(ctx)
	if err := a.unthrottleAll(); err != nil {
		a.log.Warn("a job may be slowed down still, from a move with --throttle", "err", err)
	}
	a.filterPorts()
	a.recover(ctx)
	a.tellPeers()
	a.payAllDebts()
	a.background.Go(func() { a.listenForNews(ctx) })
	a.log.Info("agent ready", "listen", peers.Addr().String(), "socket", a.cfg.Socket, "criu", a.criuPath)

	group.Go(func() error { return serve(ctx, newCrowd(local, mostConnections), a.localHandler(), localCaller) })
	group.Go(func() error { return serve(ctx, peers.HTTP(), a.peerHandler(), nil) })
	group.Go(func() error { return a.acceptMoves(ctx, peers) })
	a.background.Go(func() { a.trimOutput(ctx) })
	group.Go(func() error {
		<-ctx.Done()
		return peers.Close()
	})
	err = group.Wait()
	a.background.Wait()
	if ctx.Err() != nil && errors.Is(err, context.Canceled) {
		err = nil
	}
	return err
}

// keepMoves is how long finished moves stay in the journal: longer than a peer may
// be away and still want to know how one ended.
const keepMoves = 60 * 24 * time.Hour

func open(cfg Config) (*Agent, error) {
	if os.Geteuid() != 0 {
		return nil, errors.New("an agent must run as root: it makes namespaces and cgroups for everybody's jobs")
	}
	if err := safepath.Check(cfg.PKIDir); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, rootsAlone(err, "--pki") // who could change the CA could be any node
	}
	id, err := pki.Load(cfg.PKIDir)
	if err != nil {
		return nil, err
	}
	if cfg.Node == "" {
		cfg.Node = id.Node
	}
	if cfg.Node != id.Node {
		return nil, fmt.Errorf("the certificate in %s is for node %s, not %s: issue one with `migrate pki issue`", cfg.PKIDir, id.Node, cfg.Node)
	}
	if cfg.Socket == "" {
		cfg.Socket = filepath.Join(cfg.RunDir, "agent.sock")
	}
	a := &Agent{cfg: cfg, id: id, log: cfg.Log.With("node", cfg.Node), moves: map[job.ID]*activeMove{}, arrivals: map[handoff.MoveID]*arrival{},
		pulls: map[handoff.MoveID]*transport.Session{}, turns: turns{most: maxMoves}, pace: newPace()}
	a.endRunning = a.endCopy
	if err := a.usableCRIU(cfg.CRIU); err != nil {
		a.log.Warn("jobs can run here, but neither leave nor arrive", "err", err)
	}
	if a.paths, err = makePaths(cfg); err != nil {
		return nil, err
	}
	if err := closeFaultAccess(); err != nil {
		return nil, err
	}
	if err := namespaces.Delegate(); err != nil {
		a.log.Warn("jobs with limits cannot be started here", "err", err)
	}
	if a.boot, err = handoff.BootID(); err != nil {
		return nil, err
	}
	if a.jobs, err = job.OpenStore(a.paths.jobs()); err != nil {
		return nil, err
	}
	a.shareOut()
	if err = a.openFence(); err != nil {
		return nil, err
	}
	if a.journal, err = handoff.OpenJournal(a.paths.moves()); err != nil {
		return nil, err
	}
	a.records = &moveRecords{dir: a.paths.records(), log: a.log}
	if err := a.journal.Prune(time.Now().Add(-keepMoves)); err != nil {
		a.log.Warn("some old moves stay in the journal", "err", err)
	}
	for _, d := range a.journal.Damaged() {
		a.log.Error("a journal cannot be read, and guards the jobs that it may be about", "move", d.Name, "job", d.Job, "err", d.Err, "try", "migrate resolve "+d.Name+" --forget")
	}
	return a, nil
}

// shareOut says what callers may have.
func (a *Agent) shareOut() {
	a.bodies, a.looks, a.visits = newShare(userBodies, allBodies), newShare(userLooks, allLooks), newShare(userVisits, allVisits)
	a.usage = &output.Usage{Store: a.jobs, Alive: a.hasRunDir}
}

// listenLocal opens the socket for users. Everybody may connect; who they are
// decides what they may do.
func listenLocal(path string) (net.Listener, error) {
	if err := safepath.Check(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, rootsAlone(err, "--socket")
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

// idleTime is how long a connection may lie idle over which nothing is under way.
const idleTime = 2 * time.Minute

// serve answers HTTP on l until ctx ends, then lets requests under way end.
func serve(ctx context.Context, l net.Listener, h http.Handler, who func(context.Context, net.Conn) context.Context) error {
	srv := &http.Server{
		Handler: h, ConnContext: who,
		// What has arrived wholly has no deadline: its answer may take long.
		ReadHeaderTimeout: 10 * time.Second, ReadTimeout: 30 * time.Second, IdleTimeout: idleTime,
		MaxHeaderBytes: maxHeader,
		BaseContext:    func(net.Listener) context.Context { return ctx },
	}
	if who == nil { // nodes, which name all groups of a user
		srv.MaxHeaderBytes = http.DefaultMaxHeaderBytes
	}
	done := make(chan error, 1)
	go func() { done <- srv.Serve(l) }()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
	}
	end, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	if err := srv.Shutdown(end); err != nil {
		_ = srv.Close() // somebody follows logs; they reconnect to the next agent
	}
	<-done
	return nil
}

// shimOf is the shim of a job on this node, whether it lives or not.
func (a *Agent) shimOf(id job.ID) *shim.Client { return shim.Find(a.paths.jobRun(id)) }

func (a *Agent) ioDir(id job.ID) string { return output.Dir(a.jobs, id) }

func (a *Agent) criuClient() *criu.Client { return criu.New(a.criuPath, a.paths.kdat(), a.log) }
