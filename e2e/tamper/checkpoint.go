package tamper

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/migrate-hpc/migrate/criu/image"
	"github.com/migrate-hpc/migrate/store"
	"github.com/migrate-hpc/migrate/store/directory"
	"github.com/migrate-hpc/migrate/stream"
	"github.com/migrate-hpc/migrate/transport/pki"
)

// Images unpacks CRIU's images from a checkpoint into a directory.
func Images(checkpoint, into string) error {
	return streams(checkpoint, func(s *stream.Reader, _ io.Writer) error {
		if s.Kind() == stream.KindImages {
			return image.Unpack(s, into, 1<<30)
		}
		_, err := io.Copy(io.Discard, s)
		return err
	}, io.Discard)
}

// Checkpoint has change change the images in a checkpoint, and seals it anew as the node
// whose directory of certificates pkiDir is.
func Checkpoint(checkpoint, pkiDir string, change func(images string) error) error {
	id, err := pki.Load(pkiDir)
	if err != nil {
		return err
	}
	dir, err := os.Open(checkpoint)
	if err != nil {
		return err
	}
	defer dir.Close()
	sealed, err := directory.Open(dir, func(do func() error) error { return do() }, id.Verify)
	if err != nil {
		return err
	}
	defer sealed.Close()
	temp, err := os.MkdirTemp("", "migrate-tamper-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(temp)
	var lane bytes.Buffer
	err = streams(checkpoint, func(s *stream.Reader, out io.Writer) error {
		w := stream.NewWriter(out, s.Kind())
		if s.Kind() != stream.KindImages {
			return errors.Join(frames(s, w), w.Close())
		}
		if err := image.Unpack(s, temp, 1<<30); err != nil {
			return err
		}
		if err := change(temp); err != nil {
			return err
		}
		return errors.Join(image.Pack(temp, w, func(os.DirEntry) bool { return false }), w.Close())
	}, &lane)
	if err != nil {
		return err
	}
	m := sealed.Manifest
	m.Node = id.Node
	return reseal(dir, m, lane.Bytes(), id.Sign)
}

// reseal writes a checkpoint anew, with another first lane.
func reseal(dir *os.File, m store.Manifest, first []byte, sign store.Signer) error {
	var names []string
	content := map[string][]byte{}
	for _, f := range m.Files {
		data, err := os.ReadFile(filepath.Join(dir.Name(), f.Name))
		if err != nil {
			return err
		}
		names, content[f.Name] = append(names, f.Name), data
	}
	content["lane-0"] = first
	for _, name := range append(store.SealNames(), names...) {
		if err := os.Remove(filepath.Join(dir.Name(), name)); err != nil {
			return err
		}
	}
	d, err := directory.NewFiles(dir, names)
	if err != nil {
		return err
	}
	defer d.Close()
	for i, f := range d.All() {
		if _, err := f.Write(content[names[i]]); err != nil {
			return err
		}
	}
	return d.Seal(m, sign)
}

// streams shows every stream of lane 0.
func streams(checkpoint string, do func(*stream.Reader, io.Writer) error, out io.Writer) error {
	f, err := os.Open(filepath.Join(checkpoint, "lane-0"))
	if err != nil {
		return err
	}
	defer f.Close()
	for {
		s, err := stream.NewReader(f)
		if err != nil {
			return err
		}
		if err := do(s, out); err != nil {
			return err
		}
		if s.Kind() == stream.KindEnd {
			return nil
		}
	}
}

func frames(s *stream.Reader, w *stream.Writer) error {
	for {
		frame, err := s.ReadFrame()
		if err == io.EOF {
			return nil
		}
		if err == nil {
			err = w.WriteFrame(frame)
		}
		if err != nil {
			return err
		}
	}
}

// Forge makes the source's record say what the images say: the lie of a node that has
// thought of everything.
func Forge(images string) error {
	saved, err := image.Saved(images)
	if err != nil {
		return err
	}
	return image.SetIdentity(images, saved)
}

// Become makes the threads of root's job those of a plain user, with capabilities for nothing.
func Become(images string, uid, gid uint64, member ...uint64) error {
	names, err := filepath.Glob(filepath.Join(images, "core-*.img"))
	if err != nil {
		return err
	}
	for _, name := range names {
		i, err := readImage(name)
		if err != nil {
			return err
		}
		for field, p := range idFields {
			id := uid
			if strings.HasSuffix(field, "gid") {
				id = gid
			}
			if i.records[0], err = with(i.records[0], []uint64{id}, p...); err != nil {
				return err
			}
		}
		for field, p := range capFields {
			if field == "creds.cap_bnd" {
				continue
			}
			if i.records[0], err = with(i.records[0], []uint64{0, 0}, p...); err != nil {
				return err
			}
		}
		if i.records[0], err = with(i.records[0], member, groups...); err != nil {
			return err
		}
		if err := i.write(name); err != nil {
			return err
		}
	}
	return Forge(images)
}
