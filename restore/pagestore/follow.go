package pagestore

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"
)

// followEvery is how often a follower reads what is new. At the end it has only the rest to read.
const followEvery = 50 * time.Millisecond

// Follower reads the index log of a store while another process puts pages to it. Little is left
// to read when that process has stopped. A follower holds no page: removing the store frees its
// memory.
//
// Nothing depends on it. If it cannot follow, or another store is opened in the end, that store's
// log is read from its start.
type Follower struct {
	dir    string
	reader *logReader
	stop   chan struct{}
	once   sync.Once
	done   chan struct{}
	err    error // why it has stopped following; valid once done is closed
}

// Follow follows the store that Create made in dir, until Open or Close.
func Follow(dir string) (*Follower, error) {
	f, err := newFollower(dir)
	if err != nil {
		return nil, fmt.Errorf("follow page store in %s: %w", dir, err)
	}
	go f.run()
	return f, nil
}

func newFollower(dir string) (*Follower, error) {
	log, err := os.Open(filepath.Join(dir, logName))
	if err != nil {
		return nil, err
	}
	return &Follower{dir: dir, reader: newLogReader(log), stop: make(chan struct{}), done: make(chan struct{})}, nil
}

func (f *Follower) run() {
	defer close(f.done)
	tick := time.NewTicker(followEvery)
	defer tick.Stop()
	for f.readNew() == nil {
		select {
		case <-f.stop:
			return
		case <-tick.C:
		}
	}
}

var errStoreRemoved = errors.New("the page store has been removed")

// readNew reads what is new. After an error the follower knows nothing any more.
func (f *Follower) readNew() error {
	info, err := f.reader.log.Stat()
	switch {
	case err != nil:
	case info.Sys().(*syscall.Stat_t).Nlink == 0:
		err = errStoreRemoved
	case info.Size() < headerSize+recordSize || info.Size()-f.reader.at < recordSize:
		return nil
	default:
		err = f.reader.advance(f.size)
	}
	if err != nil {
		f.err, f.reader.index = err, nil
	}
	return err
}

// size is the length of the data file, in bytes.
func (f *Follower) size() (int64, error) {
	info, err := os.Stat(filepath.Join(f.dir, dataName))
	if err != nil {
		return 0, err
	}
	return info.Size(), nil
}

// Open opens the store as the function Open does, and ends following. The follower may be nil.
func (f *Follower) Open(dir string) (*Store, error) {
	if f == nil {
		return Open(dir)
	}
	defer f.Close()
	f.end()
	return open(dir, f.readerFor)
}

// readerFor returns a reader with what the follower has read, if the log is the one that it
// follows.
func (f *Follower) readerFor(log *os.File) *logReader {
	r := newLogReader(log)
	if f.err == nil && sameFile(log, f.reader.log) {
		r.at, r.index = f.reader.at, f.reader.index
	}
	return r
}

func sameFile(a, b *os.File) bool {
	x, err := a.Stat()
	if err != nil {
		return false
	}
	y, err := b.Stat()
	return err == nil && os.SameFile(x, y)
}

func (f *Follower) end() {
	f.once.Do(func() { close(f.stop) })
	<-f.done
}

// Close ends following. It may be called twice, and of nil.
func (f *Follower) Close() {
	if f == nil {
		return
	}
	f.end()
	_ = f.reader.log.Close() // only read
}
