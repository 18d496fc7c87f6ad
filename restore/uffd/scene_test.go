package uffd

import (
	"context"
	"encoding/binary"
	"net"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/migrate-hpc/migrate/criu/image"
	"github.com/migrate-hpc/migrate/restore/pagestore"
	"github.com/migrate-hpc/migrate/stream"
	"github.com/migrate-hpc/migrate/testenv"
)

// scene is a restore in which the test plays CRIU.
type scene struct {
	t       testing.TB
	store   *pagestore.Store
	server  *Server
	conn    *os.File
	regions map[stream.VPID][]image.Region
	result  chan error
	stats   Stats
	cancel  func()
}

func newScene(t testing.TB) *scene {
	t.Helper()
	needUserfaultfd(t)
	s := &scene{t: t, store: mustCreate(t), regions: make(map[stream.VPID][]image.Region), result: make(chan error, 1)}
	dir := t.TempDir()
	server, err := Listen(dir)
	if err != nil {
		t.Fatal(err)
	}
	s.server = server
	c, err := net.Dial("unix", dir+"/"+socketName)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if s.conn, err = c.(*net.UnixConn).File(); err != nil {
		t.Fatal(err)
	}
	if err := unix.SetNonblock(int(s.conn.Fd()), false); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.conn.Close() })
	return s
}

func needUserfaultfd(t testing.TB) {
	t.Helper()
	fd, _, errno := unix.Syscall(unix.SYS_USERFAULTFD, unix.O_CLOEXEC, 0, 0)
	if errno == 0 {
		unix.Close(int(fd))
		return
	}
	testenv.Missing(t, "userfaultfd for faults in the kernel needs root or vm.unprivileged_userfaultfd: %v", errno)
}

// task starts a task with so many pages, all of them in the store.
func (s *scene) task(vpid stream.VPID, pages int) *remote {
	s.t.Helper()
	r := startTask(s.t, s.conn, pages)
	s.put(r, vpid, 0, pages)
	return r
}

func (s *scene) put(r *remote, vpid stream.VPID, from, pages int) {
	s.t.Helper()
	for n := from; n < from+pages; n += 255 {
		k := min(255, from+pages-n)
		mustPut(s.t, s.store, vpid, r.page(n), fill(k, uint64(n)<<16))
	}
	s.regions[vpid] = append(s.regions[vpid], image.Region{Addr: r.page(from), Pages: int64(pages), Lazy: true})
}

func (s *scene) serve(workers int) {
	ctx, cancel := context.WithCancel(context.Background())
	s.cancel = cancel
	go func() {
		st, err := s.server.Serve(ctx, s.store, s.regions, workers)
		s.stats = st
		s.result <- err
	}()
	s.t.Cleanup(func() {
		cancel()
		<-s.server.Done()
		s.server.Close()
	})
}

func (s *scene) say(n int32) {
	s.t.Helper()
	if _, err := s.conn.Write(binary.NativeEndian.AppendUint32(nil, uint32(n))); err != nil {
		s.t.Fatal(err)
	}
}

// reach waits until so many bytes were brought.
func (s *scene) reach(bytes int64) {
	s.t.Helper()
	for deadline := time.Now().Add(60 * time.Second); ; time.Sleep(time.Millisecond) {
		filled, total := s.server.Progress()
		if filled >= min(bytes, total) && total > 0 {
			return
		}
		if time.Now().After(deadline) {
			s.t.Fatalf("%d of %d bytes", filled, total)
		}
	}
}

func (s *scene) fill() {
	s.t.Helper()
	if err := s.server.Fill(); err != nil {
		s.t.Fatal(err)
	}
}

func (s *scene) finish() { s.say(restoreFinished) }

// wait returns how Serve ended.
func (s *scene) wait() error {
	s.t.Helper()
	select {
	case err := <-s.result:
		return err
	case <-time.After(60 * time.Second):
		filled, total := s.server.Progress()
		s.t.Fatalf("Serve does not end: %d of %d bytes", filled, total)
		return nil
	}
}

func (s *scene) wantDone() {
	s.t.Helper()
	if err := s.wait(); err != nil {
		s.t.Fatal(err)
	}
	if filled, total := s.server.Progress(); filled != total {
		s.t.Fatalf("Progress() = %d of %d", filled, total)
	}
	if n := onDisk(s.t, s.store); n > pagestore.BlockSize {
		s.t.Fatalf("the store still takes %d bytes", n)
	}
	if err := s.server.Close(); err != nil {
		s.t.Fatal(err)
	}
}
