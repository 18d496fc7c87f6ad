package network

import (
	"errors"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// rules are what tc shows of the loopback of pid.
func rules(t *testing.T, pid int) string {
	t.Helper()
	out, err := exec.Command("nsenter", "--net=/proc/"+strconv.Itoa(pid)+"/ns/net", "sh", "-ec", "tc qdisc show dev lo; tc filter show dev lo egress; tc filter show dev lo ingress").CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return string(out)
}

// lonely is a network with nothing but a loopback.
func lonely(t *testing.T) (job int, fresh string) {
	t.Helper()
	if _, err := exec.LookPath("tc"); err != nil {
		t.Skip("no tc")
	}
	job = netHolder(t)
	if err := SetUp(job, nil); err != nil {
		t.Fatal(err)
	}
	return job, rules(t, job)
}

func TestALockedLoopbackPassesNothingButWhatARestoreMarks(t *testing.T) {
	job, fresh := lonely(t)
	base, err := NewBaseline()
	if err != nil {
		t.Fatal(err)
	}
	for range 2 { // the second of each changes nothing
		if err := Lock(job); err != nil {
			t.Fatal(err)
		}
	}
	for _, address := range []string{"127.0.0.1", "::1"} {
		if err := asNode(t, job, func() error { return call(address) }); !unheard(err) {
			t.Errorf("a call to %s behind the lock: %v", address, err)
		}
	}
	if !passes(t, job, restoreMark) {
		t.Error("what a restore sends does not pass")
	}
	if what, err := base.Diff(job, nil); what != "" || err != nil {
		t.Errorf("CRIU would carry the lock: %s, %v", what, err)
	}
	for range 2 {
		if err := Unlock(job); err != nil {
			t.Fatal(err)
		}
	}
	for _, address := range []string{"127.0.0.1", "::1"} {
		if err := asNode(t, job, func() error { return call(address) }); !errors.Is(err, unix.ECONNREFUSED) {
			t.Errorf("a call to %s after the lock: %v", address, err)
		}
	}
	if now := rules(t, job); now != fresh {
		t.Errorf("left behind: %s", now)
	}
}

// passes tells whether a datagram with this mark arrives.
func passes(t *testing.T, job, mark int) (arrived bool) {
	t.Helper()
	err := asNode(t, job, func() error {
		in, err := net.ListenPacket("udp", "127.0.0.1:0")
		if err != nil {
			return err
		}
		defer in.Close()
		out, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		defer unix.Close(out)
		if err := unix.SetsockoptInt(out, unix.SOL_SOCKET, unix.SO_MARK, mark); err != nil {
			return err
		}
		to := &unix.SockaddrInet4{Port: in.LocalAddr().(*net.UDPAddr).Port, Addr: [4]byte{127, 0, 0, 1}}
		if err := unix.Sendto(out, []byte("x"), 0, to); err != nil {
			return err
		}
		_ = in.SetReadDeadline(time.Now().Add(time.Second))
		_, _, err = in.ReadFrom(make([]byte, 1))
		arrived = err == nil
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return arrived
}

// A job that is root in its network keeps the rules that it has made there.
func TestTheLockTakesNoRuleOfAJobAway(t *testing.T) {
	job, _ := lonely(t)
	within(t, job, "tc qdisc add dev lo clsact; tc filter add dev lo egress prio 1 bpf bytecode '1,6 0 0 1,'; tc filter add dev lo ingress prio 7 bpf bytecode '1,6 0 0 1,'")
	had := rules(t, job)
	if err := Lock(job); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(rules(t, job), "direct-action") {
		t.Error("no lock was set")
	}
	if err := Unlock(job); err != nil {
		t.Fatal(err)
	}
	if now := rules(t, job); now != had {
		t.Errorf("the job had:\n%snow:\n%s", had, now)
	}
}

func TestOnlyANetworkWithTCPSocketsIsLocked(t *testing.T) {
	job, _ := lonely(t)
	look := func(want bool) {
		t.Helper()
		if has, err := HasTCP(job); err != nil || has != want {
			t.Errorf("has TCP: %v, want %v (%v)", has, want, err)
		}
	}
	look(false)
	for _, address := range []string{"127.0.0.1:0", "[::1]:0"} {
		var l net.Listener
		if err := asNode(t, job, func() (err error) { l, err = net.Listen("tcp", address); return err }); err != nil {
			t.Fatal(err)
		}
		look(true)
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		look(false)
	}
}

// The number of a job's process may be that of a process of the node by now.
func TestTheLoopbackOfTheNodeIsNeverClosed(t *testing.T) {
	lonely(t)
	for name, do := range map[string]func(int) error{"lock": Lock, "unlock": Unlock} {
		if err := do(os.Getpid()); !errors.Is(err, errOwn) {
			t.Errorf("%s: got %v", name, err)
		}
	}
}
