package restore

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"

	"github.com/checkpoint-restore/go-criu/v7/rpc"
	"google.golang.org/protobuf/proto"

	"github.com/migrate-hpc/migrate/checkpoint/criu"
	"github.com/migrate-hpc/migrate/namespaces"
	"github.com/migrate-hpc/migrate/restore/pages"
)

// Plan says what is restored and into what surroundings.
type Plan struct {
	Images  string             `json:"images"` // CRIU's images
	Store   string             `json:"store"`  // the page store
	Work    string             `json:"work"`   // for CRIU's log and the lazy-pages socket
	Chamber namespaces.Chamber `json:"chamber"`
	// Mounts are the external mounts: key → path on this node.
	Mounts map[string]string `json:"mounts"`
	// Veth is CRIU's word for the job's interface, "veth[eth0]:HOST@BRIDGE", or "".
	Veth string `json:"veth,omitempty"`
	TCP  bool   `json:"tcp,omitempty"`
}

// fillers is how many workers copy memory in the background.
const fillers = 2

// Parked is a job that exists and does not run.
type Parked struct {
	pid      int
	verdict  chan error // the answer to CRIU's callback; nil lets the job run
	ended    chan error // how CRIU's restore ended
	filled   chan error // how the fault server ended
	progress func() (filled, total int64)
	stop     context.CancelFunc
}

var errDropped = errors.New("dropped before it ran")

// Park restores the job up to the point before its first instruction. The
// caller becomes its parent. On an error nothing of the job is left.
func Park(ctx context.Context, client *criu.Client, plan Plan, log *slog.Logger) (*Parked, error) {
	store, err := pages.Open(plan.Store)
	if err != nil {
		return nil, err
	}
	server, err := pages.Listen(plan.Work)
	if err != nil {
		return nil, errors.Join(err, store.Close())
	}
	life, stop := context.WithCancel(context.WithoutCancel(ctx))
	p := &Parked{verdict: make(chan error), ended: make(chan error, 1), filled: make(chan error, 1), progress: server.Progress, stop: stop}
	go func() {
		_, err := server.Serve(life, store, fillers)
		p.filled <- errors.Join(err, store.Close())
	}()
	arrived := make(chan int, 1)
	go func() { p.ended <- p.restore(life, client, plan, arrived) }()
	select {
	case p.pid = <-arrived:
		log.Info("job parked", "pid", p.pid)
		return p, nil
	case err := <-p.ended:
		p.stop()
		<-p.filled
		return nil, fmt.Errorf("restore: %w", cmpErr(err))
	case <-ctx.Done():
		p.stop()
		<-p.ended
		<-p.filled
		return nil, context.Cause(ctx)
	}
}

func cmpErr(err error) error {
	if err == nil {
		return errors.New("CRIU finished without ever parking the job")
	}
	return err
}

// restore runs CRIU to its end, which is after the verdict.
func (p *Parked) restore(ctx context.Context, client *criu.Client, plan Plan, arrived chan<- int) error {
	req, run, err := plan.request()
	if err != nil {
		return err
	}
	defer func() {
		for _, f := range run.Files {
			_ = f.Close() // opened for reading only
		}
	}()
	run.Notify = func(ctx context.Context, name string, pid int) error {
		if name != "post-restore" {
			return nil
		}
		arrived <- pid
		select {
		case err := <-p.verdict:
			return err
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	_, err = client.Do(ctx, req, run)
	return err
}

// Resume lets the job run and returns its PID 1. The fault server goes on
// beyond it; see Filled.
func (p *Parked) Resume() (pid int, err error) {
	p.verdict <- nil
	if err := <-p.ended; err != nil {
		p.stop()
		return 0, fmt.Errorf("resume: %w", err)
	}
	return p.pid, nil
}

// Drop undoes the restore. Nothing of the job has run.
func (p *Parked) Drop() {
	p.verdict <- errDropped
	<-p.ended
	p.stop()
	<-p.filled
}

// Filled delivers how the fault server ended, once: nil when all memory is in
// place. After any error the job's memory is not whole and it must be killed.
func (p *Parked) Filled() <-chan error { return p.filled }

// Progress is how much memory is in place, in bytes.
func (p *Parked) Progress() (filled, total int64) { return p.progress() }

func (plan Plan) request() (*rpc.CriuReq, criu.Run, error) {
	images, err := os.Open(plan.Images)
	if err != nil {
		return nil, criu.Run{}, err
	}
	work, err := os.Open(plan.Work)
	if err != nil {
		return nil, criu.Run{}, errors.Join(err, images.Close())
	}
	run := criu.Run{Files: []*os.File{images, work}, LogFile: filepath.Join(plan.Work, "restore.log"), Wrap: plan.Chamber.Wrap}
	opts := &rpc.CriuOpts{
		ImagesDirFd:       proto.Int32(criu.FD(0)),
		WorkDirFd:         proto.Int32(criu.FD(1)),
		LogFile:           proto.String("restore.log"),
		LogLevel:          proto.Int32(2),
		Root:              proto.String(plan.Chamber.RootDir),
		RstSibling:        proto.Bool(true),
		LazyPages:         proto.Bool(true),
		ManageCgroupsMode: rpc.CriuCgMode_IGNORE.Enum(),
		FileLocks:         proto.Bool(true),
		LinkRemap:         proto.Bool(true),
		GhostLimit:        proto.Uint32(criu.GhostLimit),
		TcpEstablished:    proto.Bool(plan.TCP),
		External:          plan.external(),
	}
	return &rpc.CriuReq{Type: rpc.CriuReqType_RESTORE.Enum(), Opts: opts}, run, nil
}

func (plan Plan) external() []string {
	var ext []string
	for key, path := range plan.Mounts {
		ext = append(ext, "mnt["+key+"]:"+path)
	}
	if plan.Veth != "" {
		ext = append(ext, plan.Veth)
	}
	slices.Sort(ext)
	return ext
}
