package unread

import (
	"errors"
	"net"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/migrate-hpc/migrate/namespaces/network"
	"github.com/migrate-hpc/migrate/osthread"
	"github.com/migrate-hpc/migrate/testenv"
)

// alone runs do in a network of its own, and hands it what Find says there.
func alone(t *testing.T, do func(find func() string)) {
	t.Helper()
	testenv.NeedRoot(t)
	err := osthread.Throwaway(func() error {
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return err
		}
		if err := network.SetUpLoopback(); err != nil {
			return err
		}
		tid := unix.Gettid()
		do(func() string {
			t.Helper()
			o, err := Find(tid)
			if err != nil {
				t.Error(err)
			}
			if o == nil {
				return ""
			}
			return o.Code
		})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func socket(t *testing.T, family, kind int, at unix.Sockaddr) int {
	fd, err := unix.Socket(family, kind|unix.SOCK_CLOEXEC, 0)
	if err == nil && at != nil {
		err = unix.Bind(fd, at)
	}
	if err != nil {
		t.Error(err)
	}
	t.Cleanup(func() { _ = unix.Close(fd) })
	return fd
}

func TestConnectionsThatNobodyHasAcceptedAreFound(t *testing.T) {
	for name, at := range map[string]unix.Sockaddr{
		"IPv4": &unix.SockaddrInet4{Port: 9, Addr: [4]byte{127, 0, 0, 1}},
		"IPv6": &unix.SockaddrInet6{Port: 9, Addr: [16]byte{15: 1}},
	} {
		alone(t, func(find func() string) {
			family := unix.AF_INET
			if name == "IPv6" {
				family = unix.AF_INET6
			}
			l, c := socket(t, family, unix.SOCK_STREAM, at), socket(t, family, unix.SOCK_STREAM, nil)
			if err := unix.Listen(l, 5); err != nil {
				t.Error(err)
			}
			if code := find(); code != "" {
				t.Errorf("%s, only a listener: %s", name, code)
			}
			if err := unix.Connect(c, at); err != nil {
				t.Error(err)
			}
			if code := find(); code != "connection-waiting" {
				t.Errorf("%s, one waits: %q", name, code)
			}
			a, _, err := unix.Accept(l)
			if err != nil {
				t.Error(err)
			}
			defer unix.Close(a)
			if _, err := unix.Write(c, []byte("x")); err != nil {
				t.Error(err)
			}
			if code := find(); code != "" {
				t.Errorf("%s, accepted, with data: %s", name, code)
			}
		})
	}
}

// CRIU makes a connection again that waits and on which nothing was sent.
func TestUnixConnectionsThatCannotBeMadeAgainAreFound(t *testing.T) {
	alone(t, func(find func() string) {
		at := &unix.SockaddrUnix{Name: "@here"}
		l := socket(t, unix.AF_UNIX, unix.SOCK_STREAM, at)
		if err := unix.Listen(l, 5); err != nil {
			t.Error(err)
		}
		c := socket(t, unix.AF_UNIX, unix.SOCK_STREAM, nil)
		if err := unix.Connect(c, at); err != nil {
			t.Error(err)
		}
		if code := find(); code != "" {
			t.Errorf("nothing was sent: %s", code)
		}
		if _, err := unix.Write(c, []byte("x")); err != nil {
			t.Error(err)
		}
		if code := find(); code != "connection-waiting" {
			t.Errorf("data was sent: %q", code)
		}
		a, _, err := unix.Accept(l)
		if err != nil {
			t.Error(err)
		}
		defer unix.Close(a)
		if code := find(); code != "" {
			t.Errorf("accepted: %s", code)
		}
		closed, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM, 0)
		if err := errors.Join(err, unix.Connect(closed, at), unix.Close(closed)); err != nil {
			t.Error(err)
		}
		if code := find(); code != "connection-waiting" {
			t.Errorf("the client has closed: %q", code)
		}
	})
}

func TestDatagramsThatNobodyHasReadAreFound(t *testing.T) {
	alone(t, func(find func() string) {
		in, err := net.ListenPacket("udp", "127.0.0.1:0")
		if err != nil {
			t.Error(err)
			return
		}
		defer in.Close()
		if code := find(); code != "" {
			t.Errorf("nothing was sent: %s", code)
		}
		out := socket(t, unix.AF_INET, unix.SOCK_DGRAM, nil)
		to := &unix.SockaddrInet4{Port: in.LocalAddr().(*net.UDPAddr).Port, Addr: [4]byte{127, 0, 0, 1}}
		for _, data := range []string{"x", ""} {
			if err := unix.Sendto(out, []byte(data), 0, to); err != nil {
				t.Error(err)
			}
			if code := find(); code != "datagram-waiting" {
				t.Errorf("%q was sent: %q", data, code)
			}
			if _, _, err := in.ReadFrom(make([]byte, 9)); err != nil {
				t.Error(err)
			}
			if code := find(); code != "" {
				t.Errorf("%q was read: %s", data, code)
			}
		}
	})
}

func BenchmarkFind(b *testing.B) {
	for b.Loop() {
		if _, err := Find(unix.Getpid()); err != nil {
			b.Fatal(err)
		}
	}
}
