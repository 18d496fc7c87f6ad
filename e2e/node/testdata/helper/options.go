package main

import (
	"fmt"
	"os"
	"os/signal"
	"slices"
	"strconv"
	"syscall"
	"unsafe"
)

// setting is a socket option and what it is set to.
type setting struct {
	level, number int
	value         []byte
}

func word(n byte) []byte { return []byte{n, 0, 0, 0} }

// settings are some of every level, for TCP, UDP and Unix sockets.
var settings = map[string][]setting{
	"tcp": {{1, 47, []byte{0, 0, 16, 0, 0, 0, 0, 0}}, {0, 10, word(0)}, {0, 11, word(1)}, {6, 13, append([]byte("reno"), make([]byte, 12)...)},
		{6, 18, []byte{0x10, 0x27, 0, 0}}, {6, 25, []byte{0, 64, 0, 0}}, {1, 60, word(1)}},
	"tcp6": {{41, 16, word(9)}, {41, 67, word(32)}, {0, 1, word(16)}, {6, 7, word(3)}},
	"udp":  {{1, 35, word(1)}, {1, 40, word(1)}, {0, 33, word(7)}, {0, 34, word(0)}, {0, 32, []byte{127, 0, 0, 1}}, {0, 12, word(1)}, {0, 49, word(0)}},
	"udp6": {{41, 18, word(5)}, {41, 19, word(0)}, {41, 25, word(1)}, {41, 66, word(1)}},
	"unix": {{1, 35, word(1)}, {1, 42, word(7)}},
}

// socketOptions has sockets with options, so many of each kind, and multicast groups. At SIGUSR1 it
// looks at them again.
func socketOptions(count string) error {
	many, err := strconv.Atoi(count)
	if err != nil {
		return err
	}
	var fds []int
	var of [][]setting
	for range many {
		more, list, err := someSockets()
		if err != nil {
			return err
		}
		fds, of = append(fds, more...), append(of, list...)
	}
	told := make(chan os.Signal, 1)
	signal.Notify(told, syscall.SIGUSR1)
	fmt.Println("ready")
	for range told {
		for i, fd := range fds {
			for _, s := range of[i] {
				if has, err := option(fd, s); err != nil || !slices.Equal(has, s.value) {
					return fmt.Errorf("socket %d, level %d, option %d: %v, was %v (%v)", i, s.level, s.number, has, s.value, err)
				}
			}
		}
		text, err := os.ReadFile("/proc/net/igmp")
		if err != nil {
			return err
		}
		fmt.Printf("%sintact\n", text)
	}
	return nil
}

func someSockets() (fds []int, of [][]setting, err error) {
	for name, how := range map[string][3]int{"tcp": {2, 1, 6}, "tcp6": {10, 1, 6}, "udp": {2, 2, 17}, "udp6": {10, 2, 17}, "unix": {1, 2, 0}} {
		fd, err := syscall.Socket(how[0], how[1], how[2])
		if err != nil {
			return nil, nil, err
		}
		for _, s := range settings[name] {
			if err := syscall.SetsockoptString(fd, s.level, s.number, string(s.value)); err != nil {
				return nil, nil, fmt.Errorf("%s, level %d, option %d: %w", name, s.level, s.number, err)
			}
		}
		if err := use(fd, name); err != nil {
			return nil, nil, fmt.Errorf("%s: %w", name, err)
		}
		fds, of = append(fds, fd), append(of, settings[name])
	}
	return fds, of, nil
}

// use has the socket do something: CRIU treats each kind in a way of its own.
func use(fd int, name string) error {
	switch name {
	case "tcp":
		if err := syscall.Bind(fd, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
			return err
		}
		return syscall.Listen(fd, 5)
	case "udp":
		if err := syscall.Bind(fd, &syscall.SockaddrInet4{}); err != nil {
			return err
		}
		return syscall.SetsockoptIPMreq(fd, 0, 35, &syscall.IPMreq{Multiaddr: [4]byte{239, 1, 2, 3}, Interface: [4]byte{127, 0, 0, 1}})
	}
	return nil
}

func option(fd int, s setting) ([]byte, error) {
	b := make([]byte, len(s.value))
	size := uint32(len(b))
	_, _, errno := syscall.Syscall6(syscall.SYS_GETSOCKOPT, uintptr(fd), uintptr(s.level), uintptr(s.number), uintptr(unsafe.Pointer(&b[0])), uintptr(unsafe.Pointer(&size)), 0)
	if errno != 0 {
		return nil, errno
	}
	return b[:size], nil
}
