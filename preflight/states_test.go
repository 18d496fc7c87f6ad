package preflight

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/migrate-hpc/migrate/procfs"
)

// held is something that this process has open until the test ends.
func held(t *testing.T, fd int, err error) int {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Close(fd) }) // nothing was written to a disk
	return fd
}

func heldPipe(t *testing.T, flags int) (r, w int) {
	t.Helper()
	var p [2]int
	err := unix.Pipe2(p[:], flags|unix.O_CLOEXEC)
	return held(t, p[0], err), held(t, p[1], err)
}

func netlinkSocket(t *testing.T, ask bool) int {
	t.Helper()
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_ROUTE)
	held(t, fd, err)
	if ask {
		links := []byte{20, 0, 0, 0, unix.RTM_GETLINK, 0, unix.NLM_F_REQUEST, 3, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0} // NLM_F_DUMP
		if err := unix.Sendto(fd, links, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
			t.Fatal(err)
		}
	}
	return fd
}

// What is in such a state is read from this process, and judged as a job's.
func TestStatesThatCRIURefusesAreFoundBeforeTheFreeze(t *testing.T) {
	packets, toPackets := heldPipe(t, unix.O_DIRECT)
	ordinary, _ := heldPipe(t, 0)
	timer, err := unix.TimerfdCreate(unix.CLOCK_MONOTONIC, unix.TFD_CLOEXEC)
	held(t, timer, err)
	watch, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	held(t, watch, err)
	if err := unix.EpollCtl(watch, unix.EPOLL_CTL_ADD, ordinary, &unix.EpollEvent{Events: unix.EPOLLIN}); err != nil {
		t.Fatal(err)
	}
	want := map[int][]Code{packets: nil, toPackets: {PacketPipe}, ordinary: nil, timer: nil, watch: nil,
		netlinkSocket(t, false): nil, netlinkSocket(t, true): {SocketUnread}}
	if alarm, err := unix.TimerfdCreate(boottimeAlarm, unix.TFD_CLOEXEC); err == nil { // CAP_WAKE_ALARM
		want[held(t, alarm, nil)] = []Code{AlarmTimer}
	}
	list, err := openFiles{pid: os.Getpid(), init: os.Getpid()}.opened()
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range list {
		codes, ok := want[d.Number]
		if !ok {
			continue
		}
		delete(want, d.Number)
		var r report
		judgeState(&r, task{}, d)
		t.Run(d.Link, func(t *testing.T) { wantCodes(t, r.findings(), codes...) })
	}
	if len(want) > 0 {
		t.Errorf("not seen: %v", want)
	}
}

func TestAFileAtAPathThatTheKernelDoesNotTellIsFound(t *testing.T) {
	t.Chdir(t.TempDir())
	for range 25 {
		name := strings.Repeat("x", 200)
		if err := os.Mkdir(name, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := unix.Chdir(name); err != nil {
			t.Fatal(err)
		}
	}
	fd, err := unix.Open("f", unix.O_CREAT|unix.O_RDWR|unix.O_CLOEXEC, 0o600)
	held(t, fd, err)
	d, err := openFiles{pid: os.Getpid(), init: os.Getpid()}.descriptor(fd)
	if err != nil {
		t.Fatal(err)
	}
	var r report
	facts().judgeOpened(&r, task{}, d)
	wantCodes(t, r.findings(), PathTooLong)
}

func TestAFileUnderAMountIsFound(t *testing.T) {
	v := facts().view
	v.mounts = append(v.mounts, procfs.MountPoint{ID: "13", Target: "/home/me", Device: "0:70", Type: "tmpfs"})
	v.nested = []nestedMounts{{name: "mnt:[9]", mounts: []procfs.MountPoint{{ID: "20", Target: "/"}, {ID: "21", Target: "/a"}, {ID: "22", Target: "/a"}}}}
	for at, want := range map[file][]Code{
		regular("/home/f", 12, 1): nil, regular("/home/me/f", 13, 1): nil, regular("/home/men", 12, 1): nil, regular("/a/f", 22, 1): nil, regular("/a/f", 99, 1): nil, regular("pipe:[7]", 12, 1): nil,
		regular("/home/me/f", 12, 1): {FileCovered}, regular("/home/me", 12, 1): {FileCovered}, regular("/home/me/f (deleted)", 12, 0): {FileCovered},
		regular("/a/f", 21, 1): {FileCovered}, regular("/a/f", 20, 1): {FileCovered},
	} {
		var r report
		v.judgeCovered(&r, task{}, at)
		t.Run(fmt.Sprint(at.Link, at.Mount), func(t *testing.T) { wantCodes(t, r.findings(), want...) })
	}
}
