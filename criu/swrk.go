package criu

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"slices"
	"strconv"

	"github.com/checkpoint-restore/go-criu/v7/rpc"
	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/proto"

	"github.com/migrate-hpc/migrate/osthread"
)

const (
	// socketFD is the number that CRIU's end of the socket has in CRIU: the
	// first of exec.Cmd.ExtraFiles.
	socketFD = 3
	// maxMessage bounds a message in either direction, in bytes.
	maxMessage = 2 << 20
	// maxOutput is how much of what CRIU wrote to stderr is quoted, in bytes.
	maxOutput = 4 << 10
)

// FD is the number that Run.Files[i] has inside CRIU.
func FD(i int) int32 { return int32(socketFD + 1 + i) }

// worker is one `criu swrk`: a process that serves one request over a socket
// of its own and ends.
type worker struct {
	conn   *net.UnixConn
	output *os.File // its stdout and stderr
	pid    int
	kill   func() error
	buf    []byte

	done        chan struct{} // closed once it was reaped
	exit, after error         // how it ended, and what followed; valid after done
}

// startWorker starts CRIU. The caller ends it with close.
func (c *Client) startWorker(run Run, s surroundings) (*worker, error) {
	conn, theirs, err := socketPair()
	if err != nil {
		return nil, err
	}
	defer theirs.Close()
	fd, err := unix.MemfdCreate("criu-output", unix.MFD_CLOEXEC)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("make output file: %w", err), conn.Close())
	}
	w := &worker{conn: conn, output: os.NewFile(uintptr(fd), "criu-output"), done: make(chan struct{}), buf: make([]byte, maxMessage)}
	started := make(chan error, 1)
	cmd := c.command(run, theirs, w.output)
	go func() {
		_ = osthread.Throwaway(func() error {
			w.run(cmd, run.Before, s, started)
			return nil
		})
	}()
	if err := <-started; err != nil {
		return nil, errors.Join(err, conn.Close(), w.output.Close())
	}
	return w, nil
}

func (c *Client) command(run Run, socket, output *os.File) *exec.Cmd {
	argv := append(slices.Clone(run.Wrap), c.path, "swrk", strconv.Itoa(socketFD))
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.ExtraFiles = append([]*os.File{socket}, run.Files...)
	cmd.Stdout, cmd.Stderr = output, output
	cmd.SysProcAttr, cmd.Env, cmd.Dir = run.SysProcAttr, run.Env, run.Dir
	return cmd
}

// run starts the process and reaps it, on one thread that lives as long and no longer:
// it may have got a mount namespace of its own, which dies with it, and a parent-death
// signal would come when the thread dies.
func (w *worker) run(cmd *exec.Cmd, before func() error, s surroundings, started chan<- error) {
	defer close(w.done)
	var err error
	for _, prepare := range []func() error{s.before, before} {
		if prepare != nil && err == nil {
			err = prepare()
		}
	}
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		started <- fmt.Errorf("start %s: %w", cmd.Path, err)
		return
	}
	w.pid, w.kill = cmd.Process.Pid, cmd.Process.Kill
	started <- nil
	w.exit = cmd.Wait()
	if s.after != nil {
		w.after = s.after()
	}
}

// send sends one request.
func (w *worker) send(req *rpc.CriuReq) error {
	msg, err := proto.Marshal(req)
	if err != nil {
		return fmt.Errorf("encode request: %w", err)
	}
	if len(msg) > maxMessage {
		return fmt.Errorf("request of %d bytes, at most %d", len(msg), maxMessage)
	}
	switch _, err := w.conn.Write(msg); {
	case errors.Is(err, unix.EPIPE):
		return ErrVanished
	case err != nil:
		return fmt.Errorf("send request: %w", err)
	}
	return nil
}

// receive waits for the next message from CRIU.
func (w *worker) receive() (*rpc.CriuResp, error) {
	n, _, flags, _, err := w.conn.ReadMsgUnix(w.buf, nil)
	switch {
	case errors.Is(err, io.EOF), errors.Is(err, unix.ECONNRESET):
		return nil, ErrVanished
	case err != nil:
		return nil, fmt.Errorf("receive reply: %w", err)
	case flags&unix.MSG_TRUNC != 0:
		return nil, fmt.Errorf("receive reply: it is longer than %d bytes", maxMessage)
	}
	resp := new(rpc.CriuResp)
	if err := proto.Unmarshal(w.buf[:n], resp); err != nil {
		return nil, fmt.Errorf("decode reply: %w", err)
	}
	return resp, nil
}

// said returns the end of what CRIU wrote to stdout and stderr.
func (w *worker) said() string {
	info, err := w.output.Stat()
	if err != nil {
		return ""
	}
	buf := make([]byte, maxOutput)
	n, _ := w.output.ReadAt(buf, max(0, info.Size()-maxOutput))
	return string(buf[:n])
}

// socketPair makes the two ends of a connection that keeps messages apart.
func socketPair() (*net.UnixConn, *os.File, error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("make socket pair: %w", err)
	}
	ours, theirs := os.NewFile(uintptr(fds[0]), "criu"), os.NewFile(uintptr(fds[1]), "criu")
	defer ours.Close()
	for _, fd := range fds {
		if err := growSendBuffer(fd); err != nil {
			return nil, nil, errors.Join(err, theirs.Close())
		}
	}
	conn, err := net.FileConn(ours)
	if err != nil {
		return nil, nil, errors.Join(fmt.Errorf("make socket pair: %w", err), theirs.Close())
	}
	return conn.(*net.UnixConn), theirs, nil
}

// growSendBuffer makes room for one message of maxMessage: the kernel refuses
// one that is larger than the sender's buffer.
func growSendBuffer(fd int) error {
	err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUFFORCE, maxMessage)
	if errors.Is(err, unix.EPERM) {
		err = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUF, maxMessage)
	}
	if err != nil {
		return fmt.Errorf("grow socket buffer: %w", err)
	}
	return nil
}
