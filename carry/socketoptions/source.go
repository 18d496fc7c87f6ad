package socketoptions

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/migrate-hpc/migrate/carry"
	"github.com/migrate-hpc/migrate/namespaces/network"
	"github.com/migrate-hpc/migrate/osthread"
	"github.com/migrate-hpc/migrate/pidmap"
	"github.com/migrate-hpc/migrate/procfs"
	"github.com/migrate-hpc/migrate/stream"
)

type source struct {
	carry.NoSource
	job  carry.Job
	stop context.CancelFunc
	done chan struct{} // nil: nothing is being read
	read reader
	err  error
}

// NewSource is the half of the node that a job leaves.
func NewSource(j carry.Job) carry.Source { return &source{job: j} }

// Freeze begins to read. That goes on while CRIU dumps.
func (s *source) Freeze(ctx context.Context) ([]string, error) {
	s.end()
	ctx, s.stop = context.WithCancel(ctx)
	s.done = make(chan struct{})
	go func() {
		defer close(s.done)
		s.read, s.err = readJob(ctx, s.job.Init)
	}()
	return nil, nil
}

// FixImages puts what was read beside CRIU's images.
func (s *source) FixImages() error {
	if s.done == nil {
		return nil
	}
	<-s.done
	if s.err == nil {
		s.err = s.read.readAgain()
	}
	if s.err != nil || len(s.read.record.Sockets) == 0 {
		return s.err
	}
	return s.read.record.write(s.job.Images)
}

// Thaw holds no socket of the job any more when it runs.
func (s *source) Thaw() error {
	s.end()
	return nil
}

func (s *source) Close() error {
	s.end()
	return nil
}

func (s *source) end() {
	if s.done != nil {
		s.stop()
		<-s.done
		s.done = nil
	}
}

// readJob reads what the sockets of the frozen job with this PID 1 have.
func readJob(ctx context.Context, init int) (r reader, err error) {
	tasks, err := pidmap.InNamespace(init)
	if err != nil {
		return r, err
	}
	groups, err := joinedGroups(init)
	if err != nil {
		return r, err
	}
	err = osthread.Throwaway(func() error {
		if err := network.Enter(init); err != nil {
			return err
		}
		r = reader{kinds: map[kind]int{}, seen: map[string]bool{}, groups: groups, peekers: map[int]int{}}
		for _, t := range tasks {
			if t.Zombie() {
				continue
			}
			if err := r.task(ctx, t); err != nil {
				return fmt.Errorf("sockets of process %d (%s): %w", t.Host, t.Comm, err)
			}
		}
		return nil
	})
	return r, err
}

// reader reads each socket once, whoever shares it.
type reader struct {
	record record
	kinds  map[kind]int
	seen   map[string]bool // sockets, as /proc names them
	groups []group         // that any of them has joined
	// peekers are those that have a peek offset, by their place in the record: the process on the
	// node. CRIU sets one while it reads what is queued (dump_sk_queue in its sk-queue.c).
	peekers map[int]int
}

func (rd *reader) task(ctx context.Context, t pidmap.Entry) error {
	dir := fmt.Sprintf("/proc/%d/fd", t.Host)
	fds, err := procfs.Numbers(dir)
	if err != nil {
		return err
	}
	pidfd := -1
	defer func() { _ = unix.Close(pidfd) }()
	for _, fd := range fds {
		link, err := os.Readlink(filepath.Join(dir, strconv.Itoa(fd)))
		if err != nil || !strings.HasPrefix(link, "socket:[") || rd.seen[link] {
			continue
		}
		if err := ctx.Err(); err != nil {
			return context.Cause(ctx)
		}
		rd.seen[link] = true
		if pidfd < 0 {
			if pidfd, err = unix.PidfdOpen(t.Host, 0); err != nil {
				return err
			}
		}
		if err := rd.socket(pidfd, fd, stream.VPID(t.Job)); err != nil {
			return fmt.Errorf("descriptor %d: %w", fd, err)
		}
		last := len(rd.record.Sockets) - 1
		if _, peeks := rd.record.Sockets[last].Values[peekOffset.name]; peeks {
			rd.peekers[last] = t.Host
		}
	}
	return nil
}

func (rd *reader) socket(pidfd, number int, pid stream.VPID) error {
	fd, err := unix.PidfdGetfd(pidfd, number, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	k, err := kindOf(fd)
	if err != nil {
		return err
	}
	index, known := rd.kinds[k]
	if !known {
		index = len(rd.record.Kinds)
		rd.kinds[k] = index
		rd.record.Kinds = append(rd.record.Kinds, kindRecord{k, fresh(k)})
	}
	joined, err := groupsOf(fd, k, rd.groups)
	if err != nil {
		return err
	}
	rd.record.Sockets = append(rd.record.Sockets, socketRecord{PID: pid, FD: number, Kind: index,
		Values: read(fd, k).without(rd.record.Kinds[index].Values), Groups: joined})
	return nil
}

// readAgain comes when CRIU has ended, and nothing changes any more.
func (rd *reader) readAgain() error {
	for at, host := range rd.peekers {
		s := rd.record.Sockets[at]
		fd, err := borrow(host, s.FD)
		if err != nil {
			return err
		}
		now, err := peekOffset.get(fd)
		_ = unix.Close(fd) // a second descriptor of it
		if err != nil {
			return err
		}
		if s.Values[peekOffset.name] = now; bytes.Equal(now, rd.record.Kinds[s.Kind].Values[peekOffset.name]) {
			delete(s.Values, peekOffset.name)
		}
	}
	return nil
}
