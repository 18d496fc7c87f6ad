//go:build linux

package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/migrate-hpc/migrate/e2e/vm/guest/api"
)

// terminal runs a command on a terminal of its own whose other end the client
// gets, as bare bytes.
func terminal(w http.ResponseWriter, r *http.Request) {
	var c api.Command
	if err := json.NewDecoder(r.Body).Decode(&c); err != nil || len(c.Args) == 0 {
		http.Error(w, "no command", http.StatusBadRequest)
		return
	}
	ptmx, cmd, err := startOnTerminal(c)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	defer ptmx.Close()
	conn, buffered, err := http.NewResponseController(w).Hijack()
	if err == nil {
		defer conn.Close()
		if _, err = io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: tty\r\n\r\n"); err == nil {
			relay(conn, buffered, ptmx, cmd)
			return
		}
	}
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
}

// relay copies both ways until the command has ended or the client has gone.
func relay(conn net.Conn, in io.Reader, ptmx *os.File, cmd *exec.Cmd) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		_, _ = io.Copy(ptmx, in)
		_ = unix.Kill(-cmd.Process.Pid, unix.SIGHUP)
	}()
	_, _ = io.Copy(conn, ptmx) // ends with EIO when the last one closes the terminal
	_ = conn.Close()
	<-done
	_ = cmd.Wait()
}

func startOnTerminal(c api.Command) (*os.File, *exec.Cmd, error) {
	ptmx, err := os.OpenFile("/dev/ptmx", os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		return nil, nil, err
	}
	n, err := unix.IoctlGetInt(int(ptmx.Fd()), unix.TIOCGPTN)
	if err == nil {
		err = unix.IoctlSetPointerInt(int(ptmx.Fd()), unix.TIOCSPTLCK, 0)
	}
	var tty *os.File
	if err == nil {
		tty, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|syscall.O_NOCTTY, 0)
	}
	if err != nil {
		_ = ptmx.Close()
		return nil, nil, err
	}
	defer tty.Close()
	cmd := exec.Command(c.Args[0], c.Args[1:]...)
	cmd.Env, cmd.Dir = environment(c.Env), c.Dir
	cmd.Stdin, cmd.Stdout, cmd.Stderr = tty, tty, tty
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	if err := cmd.Start(); err != nil {
		_ = ptmx.Close()
		return nil, nil, err
	}
	return ptmx, cmd, nil
}
