package mqueue

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Dir is where a job has its queues mounted.
const Dir = "/dev/mqueue"

// Magic tells the file system of queues, as statfs(2) has it: MQUEUE_MAGIC
// (ipc/mqueue.c).
const Magic = 0x19800202

// Queue is a POSIX message queue with its content.
type Queue struct {
	Name        string    `json:"name"` // without the slash
	Mode        uint32    `json:"mode"`
	UID         uint32    `json:"uid"` // as the node sees it
	GID         uint32    `json:"gid"`
	MaxMessages int64     `json:"max_messages"`
	MessageSize int64     `json:"message_size"` // the largest, bytes
	Messages    []Message `json:"messages,omitempty"`
}

// Message is one message; those of a Queue are in the order of receiving.
type Message struct {
	Priority uint32 `json:"priority"`
	Data     []byte `json:"data"`
}

// Bounds of what is believed about a queue; the kernel's own are lower
// (include/linux/ipc_namespace.h, HARD_MSGMAX and HARD_MSGSIZEMAX).
const (
	maxQueues   = 4096
	maxMessages = 65536
	maxSize     = 16 << 20
)

// Save reads the queues of a frozen job, whose PID 1 is given. While the messages of one
// are not in it, keep is called with them, for [PutBack]; nil keeps nothing.
func Save(pid int, keep func(Queue) error) ([]Queue, error) {
	dir, names, err := list(pid)
	if dir == nil || err != nil {
		return nil, err
	}
	defer dir.Close()
	var queues []Queue
	for _, name := range names {
		q, err := save(dir, name, keep)
		if err != nil {
			return nil, fmt.Errorf("message queue %s: %w", name, err)
		}
		queues = append(queues, q)
	}
	return queues, check(queues)
}

func save(dir *os.File, name string, keep func(Queue) error) (q Queue, err error) {
	fd, err := open(dir, name, unix.O_RDWR)
	if err != nil {
		return q, err
	}
	defer func() { err = errors.Join(err, unix.Close(fd)) }()
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return q, err
	}
	attr, err := getattr(fd)
	if err != nil {
		return q, err
	}
	q = Queue{Name: name, Mode: st.Mode & 0o7777, UID: st.Uid, GID: st.Gid, MaxMessages: attr.maxMessages, MessageSize: attr.messageSize}
	if err := check([]Queue{q}); err != nil {
		return q, err
	}
	if err = q.drain(fd); err == nil && keep != nil {
		err = keep(q)
	}
	// Whatever happened, what was taken out goes back.
	return q, errors.Join(err, q.fill(fd))
}

// PutBack has a queue of a job hold what a Save that was cut short had taken out of it. The
// job has been frozen ever since.
func PutBack(pid int, q Queue) (err error) {
	dir, _, err := list(pid)
	if dir == nil {
		return errors.Join(err, os.ErrNotExist)
	}
	defer dir.Close()
	fd, err := open(dir, q.Name, unix.O_RDWR)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, unix.Close(fd)) }()
	left := Queue{MaxMessages: q.MaxMessages, MessageSize: q.MessageSize} // a part of the same
	if err := left.drain(fd); err != nil {
		return err
	}
	return q.fill(fd)
}

// errFed: the job is frozen, but a process that is not may have the queue from it.
var errFed = errors.New("a process outside of the job goes on sending to it")

func (q *Queue) drain(fd int) error {
	buf := make([]byte, q.MessageSize)
	for {
		if int64(len(q.Messages)) > q.MaxMessages {
			return errFed
		}
		n, prio, err := receive(fd, buf)
		if err == syscall.EAGAIN {
			return nil
		}
		if err != nil {
			return fmt.Errorf("receive: %w", err)
		}
		q.Messages = append(q.Messages, Message{Priority: prio, Data: append([]byte(nil), buf[:n]...)})
	}
}

// fill puts all messages in that can be: one that cannot does not take the others along.
func (q *Queue) fill(fd int) error {
	var failed int
	var first error
	for _, m := range q.Messages {
		if err := sendPatiently(fd, m); err != nil {
			failed++
			first = cmp.Or(first, err)
		}
	}
	if failed > 0 {
		return fmt.Errorf("%d of %d messages could not be sent: %w", failed, len(q.Messages), first)
	}
	return nil
}

// sendPatiently waits a little for memory.
func sendPatiently(fd int, m Message) error {
	const tries, pause = 20, 10 * time.Millisecond
	var err error
	for range tries {
		if err = send(fd, m.Data, m.Priority); err != unix.ENOMEM {
			return err
		}
		time.Sleep(pause)
	}
	return err
}

// Make creates the queues in the ipc namespace of pid.
func Make(pid int, queues []Queue) error {
	if err := check(queues); err != nil || len(queues) == 0 {
		return err
	}
	return inIPC(pid, func() error {
		for _, q := range queues {
			if err := q.make(); err != nil {
				return fmt.Errorf("message queue %s: %w", q.Name, err)
			}
		}
		return nil
	})
}

// make creates the queue as its owner: a user namespace maps no other user.
func (q Queue) make() (err error) {
	if err := actAs(q.UID, q.GID); err != nil {
		return err
	}
	fd, err := create(q.Name, q.MaxMessages, q.MessageSize)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, unix.Close(fd)) }()
	if err := q.fill(fd); err != nil {
		return err
	}
	return unix.Fchmod(fd, q.Mode)
}

// check refuses what no Save would have written.
func check(queues []Queue) error {
	if len(queues) > maxQueues {
		return fmt.Errorf("%d message queues", len(queues))
	}
	for _, q := range queues {
		switch {
		case q.Name == "" || q.Name == "." || q.Name == ".." || strings.ContainsAny(q.Name, "/\x00") || len(q.Name) > 255:
			return fmt.Errorf("a message queue cannot be called %q", q.Name)
		case q.MaxMessages < 1 || q.MaxMessages > maxMessages || q.MessageSize < 1 || q.MessageSize > maxSize || int64(len(q.Messages)) > q.MaxMessages:
			return fmt.Errorf("message queue %s: sizes out of range", q.Name)
		}
	}
	return nil
}

// Notified names a queue of the job for which a task has asked to be notified,
// which does not survive a checkpoint; "" if there is none.
func Notified(pid int) (string, error) {
	dir, names, err := list(pid)
	if dir == nil || err != nil {
		return "", err
	}
	defer dir.Close()
	for _, name := range names {
		fd, err := open(dir, name, unix.O_RDONLY)
		if err != nil {
			continue // gone meanwhile
		}
		var text [256]byte // FILENT_SIZE of the kernel is 80
		n, err := unix.Read(fd, text[:])
		if err = errors.Join(err, unix.Close(fd)); err != nil {
			continue
		}
		_, who, found := strings.Cut(string(text[:n]), "NOTIFY_PID:")
		if found && strings.TrimSpace(who) != "0" {
			return name, nil
		}
	}
	return "", nil
}
