package vm

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"syscall"
)

// process is a QEMU. It dies with the process that started it, however that ends.
type process struct {
	cmd   *exec.Cmd
	ended chan struct{} // closed when it has been reaped
	err   error         // valid then
}

// start runs a command line with its output in a file.
func start(args []string, log string) (*process, error) {
	out, err := os.OpenFile(log, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return nil, err
	}
	p := &process{cmd: exec.Command(args[0], args[1:]...), ended: make(chan struct{})}
	p.cmd.Stdout, p.cmd.Stderr = out, out
	p.cmd.SysProcAttr = &syscall.SysProcAttr{
		Pdeathsig: syscall.SIGKILL,
		Setpgid:   true, // so that Ctrl-C reaches us, who then end it, and not both at once
	}
	started := make(chan error)
	go func() {
		// Pdeathsig is tied to the thread that forked, so that one must live as long.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		defer out.Close()
		err := p.cmd.Start()
		started <- err
		if err != nil {
			return
		}
		p.err = p.cmd.Wait()
		close(p.ended)
	}()
	if err := <-started; err != nil {
		return nil, fmt.Errorf("start %s: %w", args[0], err)
	}
	return p, nil
}

// kill is the power cut. Killing twice is killing once.
func (p *process) kill() {
	_ = p.cmd.Process.Kill() // it may have ended by itself
	<-p.ended
}

// alive says whether it runs, and if not, why.
func (p *process) alive() error {
	select {
	case <-p.ended:
		return fmt.Errorf("QEMU ended: %w", orEnded(p.err))
	default:
		return nil
	}
}

func orEnded(err error) error {
	if err == nil {
		return os.ErrProcessDone
	}
	return err
}
