package criu

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"github.com/checkpoint-restore/go-criu/v7/rpc"
	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/proto"
)

// Result is a finished lazy dump.
type Result struct {
	Response *rpc.CriuResp
	Took     time.Duration // from the request to the end of CRIU
}

// DumpLazy makes CRIU write everything but lazy memory and end, with the job
// still frozen. It sets LeaveRunning, the network lock SKIP and LazyPages, unless that
// was set to false: then CRIU writes all memory, and nothing else is different.
// FreezeCgroup must name the job's cgroup, which the caller has frozen, and
// ConfigFile must be free.
//
// After the images CRIU would listen for a client that asks for pages, over RPC
// on every address of the node. It is given a connection instead, by way of a
// configuration file in memory (ps-socket, the only option that reaches a lazy
// dump), whose other end is closed already. So there never is a port that
// somebody else could connect to, and CRIU finds at once that its client needs
// nothing more.
func (c *Client) DumpLazy(ctx context.Context, req *rpc.CriuReq, run Run) (Result, error) {
	l, err := c.StartLazy(ctx, run)
	if err != nil {
		return Result{}, err
	}
	return l.Dump(ctx, req, run)
}

// Lazy is a CRIU that stands by for a lazy dump.
type Lazy struct {
	*Standby
	config string // the path of the configuration file, in CRIU
}

// StartLazy starts the CRIU of a DumpLazy; see Start.
func (c *Client) StartLazy(ctx context.Context, run Run) (*Lazy, error) {
	client, err := closedConnection()
	if err != nil {
		return nil, &Error{Op: "lazy dump", Err: err}
	}
	defer client.Close()
	n := len(run.Files)
	config, err := memoryFile("criu-config", fmt.Sprintf("ps-socket %d\n", FD(n)))
	if err != nil {
		return nil, &Error{Op: "lazy dump", Err: err}
	}
	defer config.Close()
	run.Files = append(slices.Clone(run.Files), client, config)
	s, err := c.Start(ctx, run)
	if err != nil {
		return nil, err
	}
	return &Lazy{s, fmt.Sprintf("/proc/self/fd/%d", FD(n+1))}, nil
}

// Dump is the rest of DumpLazy.
func (l *Lazy) Dump(ctx context.Context, req *rpc.CriuReq, run Run) (Result, error) {
	req, err := lazyRequest(req)
	if err != nil {
		l.Close()
		return Result{}, &Error{Op: "lazy dump", Err: err}
	}
	if req.GetOpts().GetLazyPages() {
		req.Opts.ConfigFile = proto.String(l.config)
	}
	start := time.Now()
	resp, err := l.Do(ctx, req, run)
	return Result{Response: resp, Took: time.Since(start)}, err
}

func lazyRequest(req *rpc.CriuReq) (*rpc.CriuReq, error) {
	switch {
	case req.GetType() != rpc.CriuReqType_DUMP:
		return nil, fmt.Errorf("request is %s", req.GetType())
	case req.GetOpts().GetFreezeCgroup() == "":
		return nil, errors.New("no cgroup to keep frozen was named")
	case req.GetOpts().GetConfigFile() != "":
		return nil, errors.New("a configuration file was named")
	}
	req = proto.Clone(req).(*rpc.CriuReq)
	if req.Opts.LazyPages == nil {
		req.Opts.LazyPages = proto.Bool(true)
	}
	req.Opts.LeaveRunning = proto.Bool(true)
	req.Opts.NetworkLock = rpc.CriuNetworkLockMethod_SKIP.Enum()
	return req, nil
}

// closedConnection returns one end of a connection; the other one is closed.
func closedConnection() (*os.File, error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("make socket pair: %w", err)
	}
	f := os.NewFile(uintptr(fds[0]), "page-client")
	if err := unix.Close(fds[1]); err != nil {
		return nil, errors.Join(fmt.Errorf("close socket: %w", err), f.Close())
	}
	return f, nil
}

// memoryFile returns a file without a name that holds text.
func memoryFile(name, text string) (*os.File, error) {
	fd, err := unix.MemfdCreate(name, unix.MFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("make %s: %w", name, err)
	}
	f := os.NewFile(uintptr(fd), name)
	if _, err := f.WriteString(text); err != nil {
		return nil, errors.Join(fmt.Errorf("write %s: %w", name, err), f.Close())
	}
	return f, nil
}
