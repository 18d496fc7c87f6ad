package preflight

import (
	"errors"
	"io"
	"net"
	"testing"

	"golang.org/x/sys/unix"
)

func TestWhatNoProgramTakesInIsRefused(t *testing.T) {
	for role, want := range map[string]Code{"backlog": Unaccepted, "datagram": Unread} {
		j := start(t, role, nil)
		_, findings := j.look(t)
		wantCodes(t, findings, want)
	}
}

func TestAConnectionWhoseOtherEndIsInAMessageIsNoneToTheOutside(t *testing.T) {
	j := start(t, "in-flight", nil)
	_, findings := j.look(t)
	wantCodes(t, findings)
}

// open stay open for as long as the process lives.
var open []io.Closer

// playBacklog has a connection that nobody accepts.
func playBacklog(string) error {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		return err
	}
	c, err := net.Dial("tcp", l.Addr().String())
	open = append(open, l, c)
	return err
}

// playDatagram has a datagram that nobody reads.
func playDatagram(string) error {
	in, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		return err
	}
	open = append(open, in)
	_, err = in.WriteTo([]byte("x"), in.LocalAddr())
	return err
}

// playInFlight has a connection whose other end is in a message that nobody has received.
func playInFlight(string) error {
	way, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_DGRAM, 0)
	if err != nil {
		return err
	}
	ends, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	if err != nil {
		return err
	}
	return errors.Join(unix.Sendmsg(way[0], []byte("x"), unix.UnixRights(ends[1]), nil, 0), unix.Close(ends[1]))
}
