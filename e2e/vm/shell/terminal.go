package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/migrate-hpc/migrate/e2e/vm/guest/api"
)

// terminal connects this one to a shell in the machine behind a port, until the shell
// or ctx ends.
func terminal(ctx context.Context, port int) (err error) {
	conn, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port))
	if err != nil {
		return err
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	in, err := upgrade(conn)
	if err != nil {
		return err
	}
	restore, err := makeRaw(int(os.Stdin.Fd()))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, restore()) }()
	go func() {
		_, _ = io.Copy(conn, os.Stdin) // ends with the process
		_ = conn.Close()
	}()
	if _, err := io.Copy(os.Stdout, in); err != nil && !errors.Is(err, net.ErrClosed) {
		return err
	}
	return nil
}

// upgrade asks for a shell; what comes after the answer are its bytes.
func upgrade(conn net.Conn) (io.Reader, error) {
	body, err := json.Marshal(api.Command{Args: []string{"bash", "-i"}, Dir: "/root", Env: []string{"TERM=" + os.Getenv("TERM")}})
	if err != nil {
		return nil, err
	}
	req, err := http.NewRequest("POST", "http://guest/tty", strings.NewReader(string(body)))
	if err != nil {
		return nil, err
	}
	if err := req.Write(conn); err != nil {
		return nil, err
	}
	r := bufio.NewReader(conn)
	resp, err := http.ReadResponse(r, req)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusSwitchingProtocols {
		text, _ := io.ReadAll(io.LimitReader(resp.Body, 4096))
		return nil, fmt.Errorf("no shell: %s: %s", resp.Status, text)
	}
	return r, nil
}

// makeRaw lets every key through to the other terminal. What is no terminal, such as
// a pipe, stays as it is.
func makeRaw(fd int) (restore func() error, err error) {
	before, err := unix.IoctlGetTermios(fd, unix.TCGETS)
	if errors.Is(err, unix.ENOTTY) {
		return func() error { return nil }, nil
	}
	if err != nil {
		return nil, err
	}
	raw := *before
	raw.Iflag &^= unix.BRKINT | unix.ICRNL | unix.INPCK | unix.ISTRIP | unix.IXON
	raw.Oflag &^= unix.OPOST
	raw.Cflag |= unix.CS8
	raw.Lflag &^= unix.ECHO | unix.ICANON | unix.IEXTEN | unix.ISIG
	raw.Cc[unix.VMIN], raw.Cc[unix.VTIME] = 1, 0
	if err := unix.IoctlSetTermios(fd, unix.TCSETS, &raw); err != nil {
		return nil, err
	}
	return func() error { return unix.IoctlSetTermios(fd, unix.TCSETS, before) }, nil
}
