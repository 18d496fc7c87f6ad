package network

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// sysctlDir is a directory of sysctls.
type sysctlDir string

// carriedSysctls are the sysctls of a network namespace that CRIU carries (criu/net.c): all of a
// directory, or the names given.
var carriedSysctls = map[sysctlDir][]string{
	"/proc/sys/net/ipv4/conf/all": nil, "/proc/sys/net/ipv4/conf/default": nil, "/proc/sys/net/ipv4/conf/lo": nil,
	"/proc/sys/net/ipv6/conf/all": nil, "/proc/sys/net/ipv6/conf/default": nil, "/proc/sys/net/ipv6/conf/lo": nil,
	"/proc/sys/net/ipv4": {"ping_group_range"}, "/proc/sys/net/unix": {"max_dgram_qlen"},
}

func readSysctls() (map[sysctlDir]map[string]string, error) {
	all := map[sysctlDir]map[string]string{}
	for g, names := range carriedSysctls {
		values, err := g.read(names)
		if errors.Is(err, os.ErrNotExist) {
			continue // a kernel without IPv6
		}
		if err != nil {
			return nil, err
		}
		all[g] = values
	}
	return all, nil
}

func (g sysctlDir) read(names []string) (map[string]string, error) {
	if names == nil {
		entries, err := os.ReadDir(string(g))
		if err != nil {
			return nil, err
		}
		for _, e := range entries {
			names = append(names, e.Name())
		}
	}
	values := map[string]string{}
	err := g.open(func(dir int) {
		for _, name := range names {
			values[name] = readSysctl(dir, name)
		}
	})
	return values, err
}

// These sysctls are off in every job, except in those that an earlier version has started. There
// they have no effect: the port drops what is sent from addresses that the job was not given.
const acceptRA, acceptDAD = "accept_ra", "accept_dad"

// diff names the first value that is not the one wanted. It ignores the names in but.
func (g sysctlDir) diff(want map[string]string, but ...string) (what string, err error) {
	err = g.open(func(dir int) {
		for name, value := range want {
			if now := readSysctl(dir, name); now != value && !slices.Contains(but, name) {
				what = fmt.Sprintf("%s/%s is %q, not %q", g, name, now, value)
				return
			}
		}
	})
	return what, err
}

func (g sysctlDir) open(do func(dir int)) error {
	dir, err := unix.Open(string(g), unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return &os.PathError{Op: "open", Path: string(g), Err: err}
	}
	do(dir)
	return unix.Close(dir)
}

// readSysctl returns an error as a value: a secret that is not set cannot be read.
func readSysctl(dir int, name string) string {
	var buf [256]byte
	fd, err := unix.Openat(dir, name, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err.Error()
	}
	defer unix.Close(fd) // only read
	n, err := unix.Read(fd, buf[:])
	if err != nil {
		return err.Error()
	}
	return strings.TrimSpace(string(buf[:n]))
}

// disabledSysctls are off in every job:
//
//	mptcp/enabled   CRIU cannot save sockets of multipath TCP, with which Go programs listen
//	accept_ra       the job may not send from addresses that a router advertises
//	accept_dad      without a bridge the kernel would ask no neighbour, and answer none meanwhile
var disabledSysctls = []string{"/proc/sys/net/mptcp/enabled", "/proc/sys/net/ipv6/conf/default/" + acceptRA, "/proc/sys/net/ipv6/conf/default/" + acceptDAD}

// disableSysctls runs inside the job's network namespace, before it has an interface: that
// begins with what is the default then.
func disableSysctls() error {
	for _, path := range disabledSysctls {
		//house:allow os.WriteFile: a file of the kernel
		err := os.WriteFile(path, []byte("0\n"), 0)
		if err != nil && !errors.Is(err, os.ErrNotExist) && !errors.Is(err, os.ErrPermission) {
			return fmt.Errorf("switch %s off: %w", path, err)
		}
	}
	return nil
}
