package image

import (
	"errors"
	"fmt"
	"path/filepath"

	criu_core "github.com/checkpoint-restore/go-criu/v7/crit/images/criu-core"
	"github.com/checkpoint-restore/go-criu/v7/crit/images/pstree"
	"google.golang.org/protobuf/proto"

	"github.com/migrate-hpc/migrate/stream"
)

const (
	magicPstree = 0x50273030
	magicCore   = 0x55053847

	maxPstreeImage = 256 << 20
	maxCoreImage   = 16 << 20
)

// thread is one of a job, by its numbers there.
type thread struct {
	vpid stream.VPID
	tid  uint32
}

// threads lists those of a job. The main thread of a process comes first.
func threads(dir string) (all []thread, err error) {
	err = eachMessage(filepath.Join(dir, "pstree.img"), magicPstree, maxPstreeImage, func(record []byte) error {
		var e pstree.PstreeEntry
		if err := proto.Unmarshal(record, &e); err != nil {
			return fmt.Errorf("%w: %w", ErrFormat, err)
		}
		for _, tid := range e.GetThreads() {
			all = append(all, thread{stream.VPID(e.GetPid()), tid})
		}
		return nil
	})
	return all, err
}

// eachThread reads what CRIU has saved of every thread of the job. Of a zombie there is
// nothing.
func eachThread(dir string, fn func(vpid stream.VPID, tid uint32, core *criu_core.CoreEntry)) error {
	all, err := threads(dir)
	if err != nil {
		return err
	}
	for _, t := range all {
		core, err := readCore(corePath(dir, t.tid))
		if errors.Is(err, ErrMissing) {
			continue
		}
		if err != nil {
			return err
		}
		fn(t.vpid, t.tid, core)
	}
	return nil
}

func corePath(dir string, tid uint32) string {
	return filepath.Join(dir, fmt.Sprintf("core-%d.img", tid))
}

func readCore(name string) (*criu_core.CoreEntry, error) {
	e := &criu_core.CoreEntry{}
	return e, readMessage(name, magicCore, maxCoreImage, e)
}

// readMessage reads the first message of an image.
func readMessage(name string, magic uint32, limit int64, into proto.Message) error {
	read := false
	err := eachMessage(name, magic, limit, func(record []byte) error {
		if read {
			return nil
		}
		read = true
		if err := proto.Unmarshal(record, into); err != nil {
			return fmt.Errorf("%w: %w", ErrFormat, err)
		}
		return nil
	})
	if err == nil && !read {
		err = fmt.Errorf("%s: %w: it is empty", filepath.Base(name), ErrFormat)
	}
	return err
}

// eachMessage calls fn for every record of an image.
func eachMessage(name string, magic uint32, limit int64, fn func(record []byte) error) error {
	data, err := ReadBounded(name, limit)
	if err != nil {
		return err
	}
	rest, err := cutMagic(data, magic)
	for err == nil && len(rest) > 0 {
		var record []byte
		if record, rest, err = cutRecord(rest); err == nil {
			err = fn(record)
		}
	}
	if err != nil {
		return fmt.Errorf("%s: %w", filepath.Base(name), err)
	}
	return nil
}
