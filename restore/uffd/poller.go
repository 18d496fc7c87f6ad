package uffd

import (
	"encoding/binary"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/migrate-hpc/migrate/linux"
)

// poller waits for messages of address spaces. It waits in the kernel and not in Go's
// poller, which does not run while all cores are copying.
type poller struct {
	epoll  int
	wakeup int // eventfd that ends every wait
}

func (p *poller) open() (err error) {
	if p.epoll, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
		return fmt.Errorf("make an epoll instance: %w", err)
	}
	if p.wakeup, err = unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK); err != nil {
		return fmt.Errorf("make an eventfd: %w", err)
	}
	return unix.EpollCtl(p.epoll, unix.EPOLL_CTL_ADD, p.wakeup, &unix.EpollEvent{Events: unix.EPOLLIN})
}

// add waits for one message of the address space id, and rearm for one more. So one reader
// at a time handles an address space.
func (p *poller) add(fd int, id int32) error {
	return unix.EpollCtl(p.epoll, unix.EPOLL_CTL_ADD, fd, oneMessage(id))
}

func (p *poller) rearm(fd int, id int32) error {
	return unix.EpollCtl(p.epoll, unix.EPOLL_CTL_MOD, fd, oneMessage(id))
}

func (p *poller) remove(fd int) error {
	return unix.EpollCtl(p.epoll, unix.EPOLL_CTL_DEL, fd, nil)
}

func oneMessage(id int32) *unix.EpollEvent {
	return &unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLONESHOT, Fd: id}
}

// wait returns the address space that has a message, or 0 after wake.
func (p *poller) wait() (id int32, err error) {
	ready := make([]unix.EpollEvent, 1)
	_, err = linux.RetryValue(func() (int, error) { return unix.EpollWait(p.epoll, ready, -1) })
	return ready[0].Fd, err
}

// wake ends every wait, those to come too.
func (p *poller) wake() error {
	if p.wakeup < 0 {
		return nil
	}
	one := binary.NativeEndian.AppendUint64(nil, 1)
	_, err := unix.Write(p.wakeup, one)
	return err
}

func (p *poller) close() (err error) {
	for _, fd := range []*int{&p.epoll, &p.wakeup} {
		if *fd >= 0 {
			err = errors.Join(err, unix.Close(*fd))
			*fd = -1
		}
	}
	return err
}
