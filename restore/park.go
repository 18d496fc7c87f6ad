package restore

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync/atomic"
	"time"

	"github.com/checkpoint-restore/go-criu/v7/rpc"
	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/proto"

	"github.com/migrate-hpc/migrate/criu"
	"github.com/migrate-hpc/migrate/criu/image"
	"github.com/migrate-hpc/migrate/identity"
	"github.com/migrate-hpc/migrate/logkey"
	"github.com/migrate-hpc/migrate/mqueue"
	"github.com/migrate-hpc/migrate/namespaces"
	"github.com/migrate-hpc/migrate/namespaces/network"
	"github.com/migrate-hpc/migrate/restore/pagestore"
	"github.com/migrate-hpc/migrate/restore/uffd"
)

// Plan says what is restored and into what surroundings.
type Plan struct {
	Images     string                `json:"images"` // CRIU's images
	Store      string                `json:"store"`  // the page store
	Work       string                `json:"work"`   // for CRIU's log and the lazy-pages socket
	RestoreEnv namespaces.RestoreEnv `json:"chamber"`
	// Rule is who the job's threads may be. Recorded says that the images must hold what the
	// source knows of them; of older ones only what they hold is compared.
	Rule     identity.Rule `json:"rule"`
	Recorded bool          `json:"recorded,omitempty"`
	// Mounts are the external mounts: key → path on this node.
	Mounts map[string]string `json:"mounts"`
	// Binds are those of Mounts whose path a user may have a hand in, by Target. CRIU gets
	// what RestoreEnv.User reaches by it.
	Binds []Bind `json:"binds,omitempty"`
	// QueueDir is an empty directory for the job's POSIX message queues.
	QueueDir string `json:"queue_dir"`
	// Private are file systems of the job's own, with their content.
	Private []Mount `json:"private,omitempty"`
	// Interface is the job's network interface, nil for none.
	Interface *network.Interface `json:"interface,omitempty"`
	TCP       bool               `json:"tcp,omitempty"`
	// PrestartedCRIU is a CRIU that waits in RestoreEnv, nil if there is none. Park uses it up.
	Prestarted *PrestartedCRIU `json:"-"`
	// Follower has read of Store what was there already; it may be nil. Open uses it up.
	Follower *pagestore.Follower `json:"-"`
}

// Mount is a mount that is attached nowhere, and where it is wanted while CRIU works.
type Mount struct {
	Path string `json:"path"` // of a descriptor of it, /proc/PID/fd/N, that stays open until Park returns
	Dir  string `json:"dir"`
}

// Bind is a mount of the node, and where it is wanted while CRIU works.
type Bind struct {
	namespaces.Mount
	Dir string `json:"dir"`
}

// fillWorkers is how many workers copy memory in the background.
const fillWorkers = 2

// Parked is a job that exists and does not run, or is about to.
type Parked struct {
	plan     Plan
	server   *uffd.Server
	names    socketNames   // of the source's sockets, until it is known who runs
	verdict  chan error    // the answer to CRIU's callback; nil lets the job run
	ended    chan struct{} // closed when CRIU's restore has ended
	err      error         // and this is how
	released atomic.Bool   // CRIU was about to let go of the tasks
	filled   chan error    // how the fault server ended
	ctx      context.Context
	stop     context.CancelFunc
	init     *namespaces.Process
}

var errDropped = errors.New("dropped before it ran")

// Open gets ready to restore the job: from here on pages are taken, by Put until
// EndPush has said that all of them are those of the freeze. keeper sees to it that
// nothing of the job survives the caller before its memory is whole. Park follows, or
// Discard.
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
	p := &Parked{plan: plan, server: server, verdict: make(chan error), ended: make(chan struct{}), filled: make(chan error, 1)}
	p.ctx, p.stop = context.WithCancel(context.WithoutCancel(ctx))
	go func() {
		_, err := server.Serve(p.ctx, store, regions, fillWorkers)
		p.filled <- errors.Join(err, store.Close())
	}()
	return p, nil
}

// Memory is the job's memory on its way.
func (p *Parked) Memory() *uffd.Server { return p.server }

// Park restores the job up to the point before its first instruction. The caller
// becomes its parent. On an error nothing of the job is left.
func (p *Parked) Park(ctx context.Context, client *criu.Client, log *slog.Logger) error {
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

// sweepTime is long enough for SIGKILL to end any task.
const sweepTime = 10 * time.Second

// sweep ends what a CRIU that had to be killed has left in the job's cgroup. It
// comes before the fault server goes, so that none of it reads a wrong page.
func (plan Plan) sweep() error {
	ctx, cancel := context.WithTimeout(context.Background(), sweepTime)
	defer cancel()
	return plan.RestoreEnv.Cgroup.Kill(ctx)
}

// Discard ends what is left of a job that is given up, or was never restored, and its
// fault server.
func (p *Parked) Discard() error {
	err := errors.Join(p.plan.sweep(), p.names.undo())
	p.names = nil
	p.stop()
	<-p.filled
	return errors.Join(err, p.server.Close())
}

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
	sockets, err := image.SocketNames(plan.Images)
	if err != nil {
		return err
	}
	if p.names, err = plan.saveSocketNames(sockets); err != nil {
		return err
	}
	_, err = ready.criu.Do(ctx, req, run.Run)
	return err
}

// notify returns what is done at CRIU's notifications. It waits for the verdict in the
// last one before the tasks are let go.
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
			return mqueue.Mount(pid, p.plan.QueueDir) // in time for CRIU to bind it
		case "post-setup-namespaces": // limits set, nothing opened yet
			return p.plan.makeQueues(init)
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
			if err := p.names.showOriginals(); err != nil {
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

// connectNetwork makes the job, which is about to run, what others reach by its addresses, before
// CRIU has its sockets send again. It is this job's only copy: it runs on unreached rather
// than not at all.
func (p *Parked) connectNetwork(pid int, log *slog.Logger) {
	i := p.plan.Interface
	if i == nil {
		return
	}
	if err := i.Connect(pid); err != nil {
		log.Error("the job runs, but its network may not reach it", logkey.Err, err, logkey.Try, fmt.Sprintf("ip link set %s master %s", i.Host, i.Bridge))
	}
}

// Resume lets the job run and returns its PID 1. The fault server goes on
// beyond it; see Filled. After an error, the process is the same, MayHaveRun tells
// whether the job has run, and Drop follows.
func (p *Parked) Resume() (init *namespaces.Process, err error) {
	p.answer(nil)
	if p.err != nil {
		return p.init, fmt.Errorf("resume: %w", p.err)
	}
	return p.init, nil
}

// MayHaveRun tells, after a Resume that failed, whether CRIU failed when it had
// begun to let go of the job's tasks. Before, none of them can have run.
func (p *Parked) MayHaveRun() bool { return p.released.Load() }

// Ended is closed when CRIU has ended, after which a parked job can only be
// dropped: nobody else can let it run.
func (p *Parked) Ended() <-chan struct{} { return p.ended }

// Drop undoes the restore: nothing of the job is left.
func (p *Parked) Drop() error {
	p.answer(errDropped)
	return p.Discard()
}

// answer tells CRIU the verdict, unless it has ended before, and waits for its end.
func (p *Parked) answer(verdict error) {
	select {
	case p.verdict <- verdict:
		<-p.ended
	case <-p.ended:
	}
}

// Filled waits until all memory of the resumed job is in place. After an error it
// is not whole: the job must be killed before Close.
func (p *Parked) Filled() error { return <-p.filled }

// Close ends the fault server. Until then no task of the job reads memory that
// has not arrived.
func (p *Parked) Close() error { return p.server.Close() }

// makeQueues brings the POSIX message queues back, which CRIU does not.
func (plan Plan) makeQueues(pid int) error {
	data, err := image.Queues(plan.Images)
	if err != nil || data == nil {
		return err
	}
	var queues []mqueue.Queue
	if err := json.Unmarshal(data, &queues); err != nil {
		return fmt.Errorf("message queues: %w", err)
	}
	return mqueue.Make(pid, queues)
}

// parkRun is a run of CRIU with the directories that it finds in our /proc/PID/fd
// and that must stay open as long.
type parkRun struct {
	criu.Run
	dirs []*os.File
}

func (plan Plan) request(mode image.Network) (*rpc.CriuReq, parkRun, error) {
	images, err := os.Open(plan.Images)
	if err != nil {
		return nil, parkRun{}, err
	}
	work, err := os.Open(plan.Work)
	if err != nil {
		return nil, parkRun{}, errors.Join(err, images.Close())
	}
	run := parkRun{criu.Run{LogFile: plan.log()}, []*os.File{images, work}}
	opts := &rpc.CriuOpts{
		ImagesDirFd:       proto.Int32(int32(images.Fd())),
		WorkDirFd:         proto.Int32(int32(work.Fd())),
		LogFile:           proto.String(filepath.Base(plan.log())),
		LogLevel:          proto.Int32(2),
		Root:              proto.String(plan.RestoreEnv.RootDir),
		RstSibling:        proto.Bool(true),
		LazyPages:         proto.Bool(true),
		ManageCgroupsMode: rpc.CriuCgMode_IGNORE.Enum(),
		FileLocks:         proto.Bool(true),
		LinkRemap:         proto.Bool(true),
		GhostLimit:        proto.Uint32(criu.GhostLimit),
		TcpEstablished:    proto.Bool(plan.TCP),
		External:          plan.external(mode),
		AutoDedup:         proto.Bool(true), // gives back the room of pages that were read
	}
	if mode == image.NetworkEmpty {
		opts.EmptyNs = proto.Uint32(unix.CLONE_NEWNET)
	}
	return &rpc.CriuReq{Type: rpc.CriuReqType_RESTORE.Enum(), Opts: opts}, run, nil
}

func (plan Plan) log() string { return filepath.Join(plan.Work, "restore.log") }

func (plan Plan) external(mode image.Network) []string {
	paths := maps.Clone(plan.Mounts)
	for _, b := range plan.Binds {
		paths[b.Target] = b.Dir
	}
	var ext []string
	for key, path := range paths {
		ext = append(ext, "mnt["+key+"]:"+path)
	}
	if i := plan.Interface; i != nil && mode == image.NetworkSaved {
		ext = append(ext, fmt.Sprintf("veth[%s]:%s", i.Name, i.Host))
	}
	slices.Sort(ext)
	return ext
}
