package namespaces

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/migrate-hpc/migrate/exactjson"
	"github.com/migrate-hpc/migrate/linux"
	"github.com/migrate-hpc/migrate/namespaces/cgroup"
	"github.com/migrate-hpc/migrate/osthread"
)

// StartEnv is what the starter gives to a job from outside. The namespaces exist then, and the
// command does not run yet.
type StartEnv struct {
	// Cgroup is entered before the cgroup namespace is made.
	Cgroup *cgroup.Cgroup
	// Network is called with a pid in the job's network namespace; nil leaves
	// the job with a loopback.
	Network func(pid int) error
}

// Start runs cfg's command as PID 1 of new namespaces and returns when execve has succeeded. The
// caller is its parent and must reap it. An error names the step that failed, and no process is
// left then. The exception is a process that outlives SIGKILL because it waits for a file server.
func Start(ctx context.Context, cfg Config, around StartEnv) (*Process, error) {
	src, err := openMounts(cfg)
	if err != nil {
		return nil, err
	}
	defer src.close()
	var p *Process
	err = osthread.Throwaway(func() (err error) {
		if err := unix.Unshare(unix.CLONE_FS | unix.CLONE_NEWNS); err != nil {
			return fmt.Errorf("make a mount namespace to build in: %w", err)
		}
		if err := errors.Join(osthread.NewKeyring(cfg.Keyring), ResetAttrs()); err != nil {
			return err
		}
		// Later mounts of a user may cover any path. So this thread and stage one keep this
		// /proc as their working directory, and reach our program by it.
		if err := unix.Chdir("/proc"); err != nil {
			return err
		}
		if err := prepareTree(cfg, src); err != nil {
			return err
		}
		p, err = start(ctx, cfg, around, src.inner)
		return err
	})
	return p, err
}

func start(ctx context.Context, cfg Config, around StartEnv, mounts []*os.File) (*Process, error) {
	s, err := startStage1(cfg, mounts)
	if err != nil {
		return nil, err
	}
	defer s.close()
	stop := context.AfterFunc(ctx, func() {
		_ = s.cmd.Process.Kill()
		_ = s.link.SetReadDeadline(time.Now().Add(reportGrace))
		_ = s.report.SetReadDeadline(time.Now().Add(reportGrace)) // PID 1 may hold the other end for ever
	})

	p, err := s.superviseStages(cfg, around)
	if !stop() {
		err = context.Cause(ctx)
	}
	if err != nil {
		_ = s.cmd.Process.Kill() // it may still wait for its configuration
	}
	_ = s.cmd.Wait() // its failure has reached us over the pipe
	if err != nil {
		if p != nil && !p.kill() {
			err = fmt.Errorf("%w (process %d has outlived SIGKILL until now)", err, p.Pid)
		}
		return nil, err
	}
	return p, nil
}

// stageProcess is the first stage and our ends of its connections.
type stageProcess struct {
	cmd    *exec.Cmd
	config *os.File      // to it
	report *os.File      // from both stages: what failed, in words
	link   *net.UnixConn // with the first stage alone: PID 1, and that we have taken it
}

// close closes our ends.
func (s *stageProcess) close() {
	_ = s.config.Close() // a second time does nothing
	closeAll([]*os.File{s.report})
	_ = s.link.Close()
}

// startStage1 starts the first stage. The working directory is /proc.
func startStage1(cfg Config, mounts []*os.File) (*stageProcess, error) {
	self, err := linux.OpenFile(unix.AT_FDCWD, "self/exe", unix.O_PATH, 0)
	if err != nil {
		return nil, err
	}
	s := &stageProcess{cmd: exec.Command("self/exe")}
	theirs, err := s.makePipes()
	if err != nil {
		return nil, errors.Join(err, self.Close())
	}
	s.cmd.Args = []string{stage1Name}
	s.cmd.Env = []string{}
	s.cmd.ExtraFiles = append([]*os.File{theirs[0], theirs[1], self, theirs[2]}, mounts...)
	s.cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: unix.CLONE_NEWNS | unix.CLONE_NEWUTS | unix.CLONE_NEWIPC | unix.CLONE_NEWNET,
		Pdeathsig:  syscall.SIGKILL,
	}
	if cfg.User {
		s.cmd.SysProcAttr.Cloneflags |= unix.CLONE_NEWUSER
		s.cmd.SysProcAttr.UidMappings = sysMaps(cfg.UIDs)
		s.cmd.SysProcAttr.GidMappings = sysMaps(cfg.GIDs)
		s.cmd.SysProcAttr.GidMappingsEnableSetgroups = true
		s.cmd.SysProcAttr.Credential = &syscall.Credential{Uid: 0, Gid: 0}
	}
	err = s.cmd.Start()
	closeAll(append(theirs, self))
	if err != nil {
		s.close()
		return nil, fmt.Errorf("make namespaces: %w", err)
	}
	return s, nil
}

// makePipes makes the connections and returns the other ends: of config, report and link.
func (s *stageProcess) makePipes() ([]*os.File, error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	ours, theirs := os.NewFile(uintptr(fds[0]), "link"), os.NewFile(uintptr(fds[1]), "link")
	conn, err := net.FileConn(ours)
	_ = ours.Close() // conn is a copy
	if err != nil {
		return nil, errors.Join(err, theirs.Close())
	}
	s.link = conn.(*net.UnixConn)
	configR, configW, err := os.Pipe()
	if err != nil {
		return nil, errors.Join(err, conn.Close(), theirs.Close())
	}
	reportR, reportW, err := os.Pipe()
	if err != nil {
		closeAll([]*os.File{configR, configW, theirs})
		return nil, errors.Join(err, conn.Close())
	}
	s.config, s.report = configW, reportR
	return []*os.File{configR, reportW, theirs}, nil
}

func sysMaps(maps []IDMap) []syscall.SysProcIDMap {
	var s []syscall.SysProcIDMap
	for _, m := range maps {
		s = append(s, syscall.SysProcIDMap{ContainerID: int(m.Inside), HostID: int(m.Outside), Size: int(m.Count)})
	}
	return s
}

// superviseStages takes the first stage through the start. It applies env, sends the configuration
// and receives PID 1. It returns when execve has closed the report pipe.
func (s *stageProcess) superviseStages(cfg Config, around StartEnv) (*Process, error) {
	pid := s.cmd.Process.Pid
	if err := setOOM(strconv.Itoa(pid), 0); err != nil {
		return nil, err
	}
	if around.Cgroup != nil {
		if err := around.Cgroup.Enter(pid); err != nil {
			return nil, err
		}
	}
	if around.Network != nil {
		if err := around.Network(pid); err != nil {
			return nil, fmt.Errorf("network of the job: %w", err)
		}
	}
	if err := exactjson.NewEncoder(s.config).Encode(cfg); err != nil {
		return nil, fmt.Errorf("hand the configuration to the first stage: %w", err)
	}
	if err := s.config.Close(); err != nil {
		return nil, err
	}
	p, err := s.receiveInit(cfg.User)
	if errors.Is(err, io.EOF) {
		if err = s.readReport(); err == nil {
			err = &StartError{Reason: "the first stage ended without a word"}
		}
	}
	if err != nil {
		return p, err
	}
	return p, s.readReport()
}

// receiveInit receives the pidfd of PID 1 and checks it. PID 1 still waits for its configuration,
// so its user has no influence on it yet. An io.EOF means that the first stage has ended.
func (s *stageProcess) receiveInit(userNS bool) (p *Process, err error) {
	fd, err := receiveFD(s.link)
	if err != nil {
		return nil, err
	}
	onAnotherThread(func() { // this one may not see the node's /proc any more
		if p, err = processOf(fd); err != nil {
			err = errors.Join(err, unix.Close(fd))
			return
		}
		err = p.inNamespacesOf(s.cmd.Process.Pid, userNS)
	})
	if err != nil {
		return p, fmt.Errorf("take hold of the job's first process: %w", err)
	}
	_, err = s.link.Write([]byte{initReceived})
	return p, err
}

func onAnotherThread(fn func()) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		fn()
	}()
	<-done
}

// receiveFD receives the one descriptor of a message.
func receiveFD(conn *net.UnixConn) (int, error) {
	const room = 4 // bytes, of one descriptor
	oob := make([]byte, unix.CmsgSpace(room))
	n, oobn, _, _, err := conn.ReadMsgUnix(make([]byte, 1), oob)
	if err == nil && n == 0 {
		err = io.EOF
	}
	if err != nil {
		return -1, err
	}
	msgs, err := unix.ParseSocketControlMessage(oob[:oobn])
	if err != nil || len(msgs) != 1 {
		return -1, errors.Join(err, errors.New("no descriptor came along"))
	}
	fds, err := unix.ParseUnixRights(&msgs[0])
	if err != nil || len(fds) != 1 {
		return -1, errors.Join(err, errors.New("no descriptor came along"))
	}
	return fds[0], nil
}

// readReport returns nil when execve has closed the report pipe, or the reason why the start
// failed. Stage two becomes the user's process: only text is accepted from it.
func (s *stageProcess) readReport() error {
	said, err := io.ReadAll(io.LimitReader(s.report, maxReport))
	if err != nil {
		return fmt.Errorf("listen to the stages: %w", err)
	}
	if len(said) == 0 {
		return nil
	}
	return &StartError{Reason: cleanReason(string(said))}
}
