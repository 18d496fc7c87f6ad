package image

import (
	"archive/tar"
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/migrate-hpc/migrate/stream"
)

const (
	tarBlock  = 512
	copyChunk = 1 << 20
	filePerm  = 0o600
	givenPerm = 0o640
)

// Create makes an image of that name in dir.
func Create(dir, name string) (*os.File, error) {
	return os.OpenFile(filepath.Join(dir, name), os.O_CREATE|os.O_EXCL|os.O_WRONLY, filePerm)
}

// Give hands the images in dir over to a user of the node: the root of a job's user namespace,
// who is nobody outside, reads what CRIU has it read, and gives back the room of pages that it
// has read. Root's group stays theirs: CRIU 4.2 reads timens images in a task that is in the
// namespace, so without rights outside, and still has root's ids (restore_task_with_children).
func Give(dir string, uid int) error {
	at, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer at.Close()
	entries, err := fs.ReadDir(at.FS(), ".")
	for _, e := range entries {
		err = errors.Join(err, at.Lchown(e.Name(), uid, -1), at.Chmod(e.Name(), givenPerm))
	}
	if err != nil {
		return fmt.Errorf("hand the images over: %w", err)
	}
	return nil
}

// ErrArchive is wrapped by every error about an archive that Pack would not
// have written.
var ErrArchive = errors.New("malformed image archive")

// Pack writes the files of dir to w as a tar archive, sorted by name and
// without times or owners: the same images give the same bytes. Anything in dir
// that is no regular file is an error. What leave says is left out; it may be nil.
func Pack(dir string, w io.Writer, leave func(os.DirEntry) bool) error {
	return pack(dir, w, leave, stream.MaxFiles)
}

func pack(dir string, w io.Writer, leave func(os.DirEntry) bool, most int) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("pack images: %w", err)
	}
	if len(entries) > most {
		return fmt.Errorf("pack images: %d files, at most %d", len(entries), most)
	}
	buffered := bufio.NewWriterSize(w, copyChunk)
	archive := tar.NewWriter(buffered)
	buf := make([]byte, copyChunk)
	for _, e := range entries {
		if leave != nil && leave(e) {
			continue
		}
		if err := packFile(archive, dir, e, buf); err != nil {
			return fmt.Errorf("pack images of %s: %w", dir, err)
		}
	}
	if err := errors.Join(archive.Close(), buffered.Flush()); err != nil {
		return fmt.Errorf("pack images of %s: %w", dir, err)
	}
	return nil
}

func packFile(w *tar.Writer, dir string, e os.DirEntry, buf []byte) error {
	if err := stream.CheckName(e.Name()); err != nil {
		return fmt.Errorf("%w: %w", ErrArchive, err)
	}
	if !e.Type().IsRegular() {
		return fmt.Errorf("%s is no regular file", e.Name())
	}
	f, err := os.Open(filepath.Join(dir, e.Name()))
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	header := &tar.Header{Typeflag: tar.TypeReg, Name: e.Name(), Size: info.Size(), Mode: filePerm, Format: tar.FormatGNU}
	if err := w.WriteHeader(header); err != nil {
		return fmt.Errorf("%s: %w", e.Name(), err)
	}
	if _, err := io.CopyBuffer(onlyWriter{w}, onlyReader{f}, buf); err != nil {
		return fmt.Errorf("%s: %w", e.Name(), err)
	}
	return nil
}

// Unpack reads an archive that Pack wrote into dir, which must exist. The sizes
// of all files together are bounded by limit, in bytes. r is read to its end,
// so that a reader which checks a digest there has checked it. On an error the
// files made so far are removed; a file that was there before is an error.
func Unpack(r io.Reader, dir string, limit int64) error {
	u := &unpacker{dir: dir, left: limit, buf: make([]byte, copyChunk)}
	if err := u.run(r); err != nil {
		return errors.Join(fmt.Errorf("unpack images into %s: %w", dir, err), u.undo())
	}
	return nil
}

type unpacker struct {
	dir  string
	left int64 // bytes that may still come
	buf  []byte
	made []string
}

// run checks by position that the two blocks of zeros which end a tar archive
// were there: package tar takes an archive that stops between two files for a
// whole one.
func (u *unpacker) run(r io.Reader) error {
	counted := &countingReader{r: r}
	archive := tar.NewReader(counted)
	var end int64
	for {
		header, err := archive.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return errors.Join(ErrArchive, err)
		}
		if err := u.file(header, archive); err != nil {
			return err
		}
		end = counted.n + -header.Size&(tarBlock-1)
	}
	if counted.n < end+2*tarBlock {
		return fmt.Errorf("%w: %w", ErrArchive, io.ErrUnexpectedEOF)
	}
	return expectEnd(counted)
}

func (u *unpacker) file(h *tar.Header, r io.Reader) (err error) {
	if err := u.admit(h); err != nil {
		return err
	}
	f, err := Create(u.dir, h.Name)
	if err != nil {
		return err
	}
	u.made = append(u.made, f.Name())
	defer func() { err = errors.Join(err, f.Close()) }()
	n, err := io.CopyBuffer(onlyWriter{f}, onlyReader{r}, u.buf)
	if err == nil && n != h.Size {
		err = io.ErrUnexpectedEOF
	}
	if err != nil {
		return fmt.Errorf("%s: %w", h.Name, err)
	}
	return nil
}

func (u *unpacker) admit(h *tar.Header) error {
	if err := stream.CheckName(h.Name); err != nil {
		return fmt.Errorf("%w: %w", ErrArchive, err)
	}
	switch {
	case h.Typeflag != tar.TypeReg:
		return fmt.Errorf("%w: %s is no regular file", ErrArchive, h.Name)
	case len(u.made) >= stream.MaxFiles:
		return fmt.Errorf("%w: more than %d files", ErrArchive, stream.MaxFiles)
	case h.Size < 0 || h.Size > u.left:
		return fmt.Errorf("%s of %d bytes: %w: %d bytes are left of the limit", h.Name, h.Size, ErrSize, u.left)
	}
	u.left -= h.Size
	return nil
}

func (u *unpacker) undo() error {
	var errs error
	for _, path := range u.made {
		errs = errors.Join(errs, os.Remove(path))
	}
	return errs
}

// expectEnd reads r to its end and allows nothing on the way.
func expectEnd(r io.Reader) error {
	var b [1]byte
	switch _, err := io.ReadFull(r, b[:]); {
	case err == nil:
		return fmt.Errorf("%w: data behind the end", ErrArchive)
	case err != io.EOF:
		return err
	}
	return nil
}

type countingReader struct {
	r io.Reader
	n int64
}

func (c *countingReader) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n += int64(n)
	return n, err
}

// onlyReader and onlyWriter hide the methods that would make io.CopyBuffer
// leave the buffer it was given and use one of 32 KiB.
type onlyReader struct{ io.Reader }
type onlyWriter struct{ io.Writer }
