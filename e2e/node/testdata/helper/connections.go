package main

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"slices"
	"syscall"
	"time"
)

// connections holds TCP connections over the loopback in all states that last. At SIGUSR1 both ends
// read and compare what the other one has ever sent, and say so.
func connections() error {
	var near, far []*net.TCPConn
	for range 5 {
		a, b, err := connection()
		if err != nil {
			return err
		}
		near, far = append(near, a), append(far, b)
	}
	peer := exec.Command("/proc/self/exe", "connections-peer")
	ask, answer, err := startPeer(peer, far[:peers])
	if err != nil {
		return err
	}
	sent := []int{1: fill(near[1]), 2: fill(near[2]), 3: 0, 4: fill(near[4])}       // the last one to ourselves
	if err := errors.Join(near[0].CloseWrite(), near[2].CloseWrite()); err != nil { // the latter behind what is queued
		return err
	}
	full, err := scan(answer)
	if err != nil {
		return err
	}
	told := make(chan os.Signal, 1)
	signal.Notify(told, syscall.SIGUSR1)
	fmt.Println("ready")
	<-told
	if err := ask.Close(); err != nil {
		return err
	}
	toItself := make(chan error, 1)
	go func() { toItself <- drained(far[4], sent[4]) }()
	for _, i := range []int{1, 3, 4} { // those of the others are closed, and may have ended by now
		if err := near[i].CloseWrite(); err != nil {
			return fmt.Errorf("connection %d: %w", i, err)
		}
	}
	if err := <-toItself; err != nil {
		return fmt.Errorf("the connection to itself: %w", err)
	}
	for i, c := range near[:peers] {
		if err := drained(c, full[i]); err != nil {
			return fmt.Errorf("connection %d, this side: %w", i, err)
		}
	}
	got, err := scan(answer)
	if err == nil && !slices.Equal(got, sent[:peers]) {
		err = fmt.Errorf("the peer got %v, and was sent %v", got, sent)
	}
	if err != nil {
		return err
	}
	fmt.Println("intact", sent, full)
	select {}
}

const peers = 4 // connections to the other process

// scan reads what the peer says of each connection.
func scan(answer io.Reader) ([]int, error) {
	n := make([]int, peers)
	_, err := fmt.Fscan(answer, &n[0], &n[1], &n[2], &n[3])
	return n, err
}

// startPeer gives the connections to the other process.
func startPeer(peer *exec.Cmd, conns []*net.TCPConn) (ask io.Closer, answer io.Reader, err error) {
	for _, c := range conns {
		f, err := c.File()
		if err != nil {
			return nil, nil, err
		}
		defer f.Close()
		defer c.Close()
		peer.ExtraFiles = append(peer.ExtraFiles, f)
	}
	if ask, err = peer.StdinPipe(); err != nil {
		return nil, nil, err
	}
	if answer, err = peer.StdoutPipe(); err != nil {
		return nil, nil, err
	}
	peer.Stderr = os.Stderr
	return ask, answer, peer.Start()
}

// connectionsPeer is the other process.
func connectionsPeer() error {
	var conns []*net.TCPConn
	for i := range peers {
		c, err := net.FileConn(os.NewFile(uintptr(3+i), "connection"))
		if err != nil {
			return err
		}
		conns = append(conns, c.(*net.TCPConn))
	}
	full := [peers]int{1: fill(conns[1]), 3: fill(conns[3])}
	if err := conns[3].CloseWrite(); err != nil { // half closed the other way
		return err
	}
	fmt.Println(full[0], full[1], full[2], full[3])
	if _, err := io.Copy(io.Discard, os.Stdin); err != nil {
		return err
	}
	var got [peers]int
	for i, c := range conns {
		if i != 3 { // see above
			if err := c.CloseWrite(); err != nil {
				return fmt.Errorf("connection %d of the peer: %w", i, err)
			}
		}
		n, err := drain(c)
		if err != nil {
			return fmt.Errorf("connection %d, the peer's side, after %d bytes: %w", i, n, err)
		}
		got[i] = n
	}
	fmt.Println(got[0], got[1], got[2], got[3])
	select {}
}

// connection is one over the loopback, both ends.
func connection() (a, b *net.TCPConn, err error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, nil, err
	}
	defer l.Close()
	out, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		return nil, nil, err
	}
	in, err := l.Accept()
	if err != nil {
		return nil, nil, err
	}
	return out.(*net.TCPConn), in.(*net.TCPConn), nil
}

// pattern is what both sides send.
func pattern(at, n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte((at + i) * 31 >> 3)
	}
	return b
}

// fill sends until neither side takes more, and says how much that was.
func fill(c *net.TCPConn) (sent int) {
	for {
		_ = c.SetWriteDeadline(time.Now().Add(500 * time.Millisecond))
		n, err := c.Write(pattern(sent, 1<<16))
		sent += n
		if err != nil {
			_ = c.SetWriteDeadline(time.Time{})
			return sent
		}
	}
}

func drain(c *net.TCPConn) (got int, err error) {
	b := make([]byte, 1<<16)
	for {
		n, err := c.Read(b)
		if string(b[:n]) != string(pattern(got, n)) {
			return got, fmt.Errorf("other bytes than were sent")
		}
		got += n
		if errors.Is(err, io.EOF) {
			return got, nil
		}
		if err != nil {
			return got, err
		}
	}
}

func drained(c *net.TCPConn, want int) error {
	got, err := drain(c)
	if err == nil && got != want {
		err = errors.New("cut short")
	}
	if err != nil {
		return fmt.Errorf("after %d bytes of %d: %w", got, want, err)
	}
	return nil
}
