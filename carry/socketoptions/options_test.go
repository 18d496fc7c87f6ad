package socketoptions

import (
	"bytes"
	"encoding/binary"
	"errors"
	"net/netip"
	"os"
	"reflect"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/migrate-hpc/migrate/namespaces/network"
	"github.com/migrate-hpc/migrate/osthread"
	"github.com/migrate-hpc/migrate/pidmap"
	"github.com/migrate-hpc/migrate/testenv"
)

// alone runs do in a network of its own.
func alone(t *testing.T, do func()) {
	t.Helper()
	testenv.NeedRoot(t)
	err := osthread.Throwaway(func() error {
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return err
		}
		err := network.SetUpLoopback()
		if err == nil {
			do()
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

var kinds = []kind{
	{unix.AF_INET, unix.SOCK_STREAM, unix.IPPROTO_TCP}, {unix.AF_INET6, unix.SOCK_STREAM, unix.IPPROTO_TCP},
	{unix.AF_INET, unix.SOCK_DGRAM, unix.IPPROTO_UDP}, {unix.AF_INET6, unix.SOCK_DGRAM, unix.IPPROTO_UDP},
	{unix.AF_INET, unix.SOCK_RAW, unix.IPPROTO_ICMP}, {unix.AF_UNIX, unix.SOCK_DGRAM, 0}, {unix.AF_UNIX, unix.SOCK_STREAM, 0},
}

func newSocket(t *testing.T, k kind) int {
	t.Helper()
	fd, err := unix.Socket(k.Family, k.Type|unix.SOCK_CLOEXEC, k.Protocol)
	if err != nil {
		t.Fatal(err)
	}
	return fd
}

// change gives the option another value, if it takes one.
func change(fd int, o option, had []byte) bool {
	for _, n := range []uint32{1, 0, 2, 3, 64, 200, 600, 1 << 20} {
		value := make([]byte, max(o.size, 4))
		binary.NativeEndian.PutUint32(value, n)
		switch o.name {
		case "TCP_CONGESTION":
			copy(value, "reno")
		case "IP_OPTIONS":
			value = []byte{1, 1, 1, 1} // no operation
		case "IP_MULTICAST_IF":
			value = []byte{127, 0, 0, 1}
		case "IP_UNICAST_IF":
			value = []byte{0, 0, 0, 1} // the loopback, in the order of the network
		case "IPV6_UNICAST_IF":
			value = []byte{0, 0, 0, 1}
		}
		if unix.SetsockoptString(fd, o.level, o.number, string(value)) == nil {
			if now, err := o.get(fd); err == nil && !bytes.Equal(now, had) {
				return true
			}
		}
	}
	return false
}

// accepted is one end of a connection.
func accepted(t *testing.T, k kind) int {
	t.Helper()
	l, c := newSocket(t, k), newSocket(t, k)
	defer unix.Close(l)
	at := unix.Sockaddr(&unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}})
	if k.inet6() {
		at = &unix.SockaddrInet6{Addr: [16]byte{15: 1}}
	}
	if err := errors.Join(unix.Bind(l, at), unix.Listen(l, 1)); err != nil {
		t.Fatal(err)
	}
	at, err := unix.Getsockname(l)
	if err == nil {
		err = unix.Connect(c, at)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Close(c) })
	fd, _, err := unix.Accept(l)
	if err != nil {
		t.Fatal(err)
	}
	return fd
}

// Every option that a kind of sockets has and can change arrives at a new socket of that kind. What
// an accepted connection has by itself does, too.
func TestEveryOptionArrives(t *testing.T) {
	changed := map[string]bool{}
	alone(t, func() {
		for _, k := range kinds {
			makers := []func(*testing.T, kind) int{newSocket}
			if k.tcp() {
				makers = append(makers, accepted)
			}
			for _, one := range makers {
				everyOptionArrives(t, k, one, changed)
			}
		}
	})
	for _, o := range options {
		if !changed[o.name] {
			t.Logf("no socket here lets itself be changed: %s", o.name)
		}
	}
	if len(changed) < len(options)*3/4 {
		t.Errorf("only %d of %d options could be changed", len(changed), len(options))
	}
}

func everyOptionArrives(t *testing.T, k kind, one func(*testing.T, kind) int, changed map[string]bool) {
	usual := fresh(k)
	for _, o := range options {
		from, to := one(t, k), newSocket(t, k) // as CRIU makes them all
		had, has := read(from, k)[o.name]
		if has && change(from, o, had) {
			changed[o.name] = true
			want := read(from, k)
			if err := want.without(usual).set(to); err != nil {
				t.Errorf("%+v: %v", k, err)
			}
			if got := read(to, k); len(want.without(got)) > 0 {
				t.Errorf("%+v, %s: the copy differs in %v, which was %v", k, o.name, got.without(want), want.without(got))
			}
		}
		_, _ = unix.Close(from), unix.Close(to)
	}
	if left := fresh(k).without(usual); len(left) > 0 {
		t.Errorf("%+v: a new socket differs from a new socket in %v", k, left)
	}
}

func TestGroupsArriveWithTheirSources(t *testing.T) {
	four, six := netip.MustParseAddr("239.1.2.3"), netip.MustParseAddr("ff15::1:2:3")
	alone(t, func() {
		for _, want := range [][]group{
			nil,
			{{Interface: 1, Address: four}},
			{{Interface: 1, Address: four, Only: true, Sources: []netip.Addr{netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("10.0.0.2")}}},
			{{Interface: 1, Address: four, Sources: []netip.Addr{netip.MustParseAddr("10.0.0.3")}}},
			{{Interface: 1, Address: six}},
			{{Interface: 1, Address: six, Only: true, Sources: []netip.Addr{netip.MustParseAddr("fd00::1")}}},
		} {
			k := kind{unix.AF_INET6, unix.SOCK_DGRAM, unix.IPPROTO_UDP}
			fd, other := newSocket(t, k), newSocket(t, k)
			for _, g := range want {
				if err := g.join(fd); err != nil {
					t.Error(err)
				}
			}
			all, err := joinedGroups(unix.Gettid())
			if err != nil {
				t.Error(err)
			}
			if got, err := groupsOf(fd, k, all); err != nil || !reflect.DeepEqual(got, want) {
				t.Errorf("joined %v, found %v (%v)", want, got, err)
			}
			if got, err := groupsOf(other, k, all); err != nil || got != nil {
				t.Errorf("a socket that joined none is in %v (%v)", got, err)
			}
			_, _ = unix.Close(fd), unix.Close(other)
		}
	})
}

// CRIU gives a socket a peek offset while it reads what is queued.
func TestAPeekOffsetOfCRIUIsNotTheJobs(t *testing.T) {
	testenv.NeedRoot(t)
	k := kind{unix.AF_UNIX, unix.SOCK_DGRAM, 0}
	own, criu := newSocket(t, k), newSocket(t, k)
	defer unix.Close(own)
	defer unix.Close(criu)
	rd := reader{kinds: map[kind]int{}, seen: map[string]bool{}, peekers: map[int]int{}}
	set := func(fd, to int) {
		if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_PEEK_OFF, to); err != nil {
			t.Fatal(err)
		}
	}
	set(own, 0) // while CRIU looks
	set(criu, 0)
	if err := rd.task(t.Context(), pidmap.Entry{Host: os.Getpid(), Job: 1}); err != nil {
		t.Fatal(err)
	}
	set(own, 7)
	set(criu, -1)
	if err := rd.readAgain(); err != nil {
		t.Fatal(err)
	}
	for _, s := range rd.record.Sockets {
		value, has := s.Values[peekOffset.name]
		if s.FD == own && !bytes.Equal(value, []byte{7, 0, 0, 0}) || s.FD == criu && has {
			t.Errorf("descriptor %d has %v", s.FD, value)
		}
	}
}

// The kernel tells nobody which interface that is.
func TestAnInterfaceForMulticastThatWasGivenByItsNumberAloneDoesNotShow(t *testing.T) {
	alone(t, func() {
		k := kind{unix.AF_INET, unix.SOCK_DGRAM, unix.IPPROTO_UDP}
		fd := newSocket(t, k)
		defer unix.Close(fd)
		if err := unix.SetsockoptIPMreqn(fd, unix.SOL_IP, unix.IP_MULTICAST_IF, &unix.IPMreqn{Ifindex: 1}); err != nil {
			t.Error(err)
		}
		if differs := read(fd, k).without(fresh(k)); len(differs) > 0 {
			t.Errorf("it shows in %v: take the row out of docs/jobs.md", differs)
		}
	})
}

// A connection over the loopback leaves a maximum segment size that no program may ask for.
func TestWhatASocketShowsAfterItsConnectionHasEndedCanBeSet(t *testing.T) {
	alone(t, func() {
		for _, k := range kinds[:2] {
			listening, to := newSocket(t, k), unix.Sockaddr(&unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}})
			if k.Family == unix.AF_INET6 {
				to = &unix.SockaddrInet6{Addr: netip.IPv6Loopback().As16()}
			}
			if err := errors.Join(unix.Bind(listening, to), unix.Listen(listening, 1)); err != nil {
				t.Fatal(err)
			}
			at, err := unix.Getsockname(listening)
			if err != nil {
				t.Fatal(err)
			}
			fd := newSocket(t, k)
			if err := unix.Connect(fd, at); err != nil {
				t.Fatal(err)
			}
			accepted, _, err := unix.Accept4(listening, unix.SOCK_CLOEXEC)
			if err != nil {
				t.Fatal(err)
			}
			talk := func(from, to int) error {
				_, err := unix.Write(from, []byte("x"))
				if err == nil {
					_, err = unix.Read(to, make([]byte, 1))
				}
				return err
			}
			if err := errors.Join(talk(fd, accepted), talk(accepted, fd), unix.Shutdown(fd, unix.SHUT_WR), unix.Shutdown(accepted, unix.SHUT_WR)); err != nil {
				t.Fatal(err)
			}
			testenv.Eventually(t, func() bool { return !isConnected(fd) })
			shown, other := read(fd, k), newSocket(t, k)
			if err := shown.without(fresh(k)).set(other); err != nil {
				t.Errorf("family %d: %v", k.Family, err)
			}
			for _, fd := range []int{listening, accepted, fd, other} {
				_ = unix.Close(fd)
			}
		}
	})
}
