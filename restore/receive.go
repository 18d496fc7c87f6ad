package restore

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/migrate-hpc/migrate/criu/image"
	"github.com/migrate-hpc/migrate/stream"
	"github.com/migrate-hpc/migrate/tmpfs"
)

// setReady completes all but memory.
func (in *Receiver) setReady() error {
	in.imagesMu.Lock()
	defer in.imagesMu.Unlock()
	in.readyOnce.Do(func() {
		errs := []error{in.blocks.complete(in.Store)}
		for _, r := range in.carried {
			errs = append(errs, r.Complete())
		}
		in.notReady = errors.Join(errs...)
		if in.notReady == nil {
			close(in.ready)
		}
	})
	return in.notReady
}

// readyStream reads the stream that says that all but memory is here.
func (in *Receiver) readyStream(s *stream.Reader) error {
	if _, err := s.ReadFrame(); err != io.EOF {
		return errors.Join(err, errors.New("the stream that ends images and output is not empty"))
	}
	return in.setReady()
}

// Receive reads all lanes to their ends. Then everything is in the store or with the sinks.
func (in *Receiver) Receive(ctx context.Context, lanes []io.Reader) error {
	var all sync.WaitGroup
	var once sync.Once
	var cause error // the first; what the others fail with follows from Stop
	for i, lane := range lanes {
		all.Go(func() {
			err := in.lane(lane)
			if err == nil {
				return
			}
			once.Do(func() {
				cause = fmt.Errorf("lane %d: %w", i, err)
				if in.Stop != nil {
					in.Stop()
				}
			})
		})
	}
	all.Wait()
	if cause != nil {
		return errors.Join(context.Cause(ctx), cause)
	}
	return errors.Join(in.setReady(), in.checkAllDigests())
}

// lane reads one lane to its end.
func (in *Receiver) lane(r io.Reader) error {
	k := laneMemory{receiver: in}
	if err := in.streams(r, &k); err != nil {
		k.abort()
		return err
	}
	return k.end()
}

func (in *Receiver) streams(r io.Reader, k *laneMemory) error {
	for {
		s, err := stream.NewReader(r)
		if err != nil {
			return err
		}
		switch s.Kind() {
		case stream.KindEnd:
			_, err := s.ReadFrame()
			if err == io.EOF {
				return nil
			}
			return errors.Join(err, errors.New("the stream that ends a lane is not empty"))
		case stream.KindPages:
			err = k.readPages(s)
		case stream.KindDigests:
			err = k.verify(s)
		case stream.KindReady:
			err = in.readyStream(s)
		default:
			err = in.otherStream(s)
		}
		if err != nil {
			return err
		}
	}
}

// errLate refuses an addition to images that CRIU may be reading already.
var errLate = errors.New("images or output behind the word that all of them are here")

// otherStream reads a stream of images or output. All of them come on one lane.
func (in *Receiver) otherStream(s *stream.Reader) error {
	in.imagesMu.Lock()
	defer in.imagesMu.Unlock()
	select {
	case <-in.ready:
		return errLate
	default:
	}
	switch s.Kind() {
	case stream.KindImages:
		return in.archive(s)
	case stream.KindFile:
		return in.file(s)
	case stream.KindBlocks:
		return in.readBlocks(s)
	}
	for _, r := range in.carried {
		if slices.Contains(r.Kinds(), s.Kind()) {
			return r.Read(s, func(n int) { in.Received.Add(int64(n)) })
		}
	}
	return fmt.Errorf("stream of unknown kind %d", s.Kind())
}

// archive reads images that are sent as they are. The free room bounds them: they hold the shared
// and locked memory of a job, however much that is.
func (in *Receiver) archive(s *stream.Reader) error {
	room, err := tmpfs.Room(in.Images)
	if err != nil {
		return err
	}
	return image.Unpack(&countingReader{s, &in.Received}, in.Images, room)
}

// file writes a part of an output file.
func (in *Receiver) file(s *stream.Reader) error {
	head, err := s.ReadFrame()
	if err != nil {
		return fmt.Errorf("output file: %w", err)
	}
	var r stream.FileRange
	if err := json.Unmarshal(head, &r); err != nil {
		return fmt.Errorf("output file: %w", err)
	}
	if err := r.Check(); err != nil {
		return fmt.Errorf("output file: %w", err)
	}
	if in.OutputLimit > 0 && r.Offset > in.OutputLimit {
		return fmt.Errorf("output file: it goes on at %d, above the job's output limit of %d bytes", r.Offset, in.OutputLimit)
	}
	f, err := os.OpenFile(filepath.Join(in.IODir, r.Name), os.O_WRONLY|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	if err := fillFile(f, r, in.limited(r, s)); err != nil {
		return errors.Join(fmt.Errorf("output file %s: %w", r.Name, err), f.Close())
	}
	return f.Close()
}

// limited is the rest of an output file. It fails when the file has too much.
func (in *Receiver) limited(r stream.FileRange, s io.Reader) io.Reader {
	if in.OutputLimit == 0 {
		return s
	}
	return &limitedReader{s, in.OutputLimit - r.Offset, in.OutputLimit}
}

type limitedReader struct {
	r          io.Reader
	left, most int64
}

func (a *limitedReader) Read(p []byte) (int, error) {
	n, err := a.r.Read(p)
	if a.left -= int64(n); a.left < 0 {
		return 0, fmt.Errorf("above the job's output limit of %d bytes", a.most)
	}
	return n, err
}

func fillFile(f *os.File, r stream.FileRange, s io.Reader) error {
	if err := f.Truncate(r.Offset); err != nil {
		return err
	}
	if _, err := f.Seek(r.Offset, io.SeekStart); err != nil {
		return err
	}
	if _, err := io.Copy(f, s); err != nil {
		return err
	}
	if err := f.Chown(int(r.UID), int(r.GID)); err != nil {
		return err
	}
	if err := f.Chmod(os.FileMode(r.Mode).Perm()); err != nil { // until here it is closed
		return err
	}
	return f.Sync()
}

type countingReader struct {
	r io.Reader
	n *atomic.Int64
}

func (c *countingReader) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n.Add(int64(n))
	return n, err
}
