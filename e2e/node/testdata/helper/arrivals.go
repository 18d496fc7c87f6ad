package main

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/signal"
	"syscall"
	"time"
)

// lateReader sends itself datagrams and connections, and takes each in a moment later.
func lateReader() error {
	in, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		return err
	}
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		return err
	}
	b := make([]byte, 9)
	for i := 0; ; i++ {
		text := fmt.Sprintf("%09d", i)
		out, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			return err
		}
		_, first := in.WriteTo([]byte(text), in.LocalAddr())
		_, second := out.Write([]byte(text))
		if err := errors.Join(first, second); err != nil {
			return err
		}
		time.Sleep(5 * time.Millisecond)
		if _, _, err := in.ReadFrom(b); err != nil || string(b) != text {
			return fmt.Errorf("datagram %q instead of %s (%v)", b, text, err)
		}
		conn, err := l.Accept()
		if err != nil {
			return err
		}
		if n, err := conn.Read(b); err != nil || string(b[:n]) != text {
			return fmt.Errorf("%q on the connection instead of %s (%v)", b[:n], text, err)
		}
		if err := errors.Join(conn.Close(), out.Close()); err != nil {
			return err
		}
		fmt.Println("n", i)
		time.Sleep(20 * time.Millisecond)
	}
}

// deaf never reads the datagram that it has.
func deaf() error {
	in, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		return err
	}
	if _, err := in.WriteTo([]byte("x"), in.LocalAddr()); err != nil {
		return err
	}
	count()
	return in.Close()
}

// inFlight has one end of a connection nowhere but in a message, with data on its way to it. At
// SIGUSR1 it receives the end.
func inFlight() error {
	way, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_DGRAM, 0)
	if err != nil {
		return err
	}
	ends, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM, 0)
	if err != nil {
		return err
	}
	if err := syscall.SetsockoptInt(ends[1], syscall.SOL_SOCKET, syscall.SO_TIMESTAMPNS, 1); err != nil {
		return err
	}
	_, bad := syscall.Write(ends[0], []byte("data"))
	if err := errors.Join(bad, syscall.Sendmsg(way[0], []byte("x"), syscall.UnixRights(ends[1]), nil, 0), syscall.Close(ends[1])); err != nil {
		return err
	}
	told := make(chan os.Signal, 1)
	signal.Notify(told, syscall.SIGUSR1)
	fmt.Println("ready")
	<-told
	control := make([]byte, 64)
	_, n, _, _, err := syscall.Recvmsg(way[1], make([]byte, 1), control, 0)
	if err != nil {
		return err
	}
	messages, err := syscall.ParseSocketControlMessage(control[:n])
	if err != nil || len(messages) != 1 {
		return fmt.Errorf("%d control messages, %v", len(messages), err)
	}
	fds, err := syscall.ParseUnixRights(&messages[0])
	if err != nil {
		return err
	}
	b := make([]byte, 9)
	if n, err := syscall.Read(fds[0], b); err != nil || string(b[:n]) != "data" {
		return fmt.Errorf("read %q, %v", b[:max(n, 0)], err)
	}
	stamps, err := syscall.GetsockoptInt(fds[0], syscall.SOL_SOCKET, syscall.SO_TIMESTAMPNS)
	fmt.Println("intact, timestamps", stamps, err)
	select {}
}
