package image

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/migrate-hpc/migrate/job/durable"
)

// Signer signs data as this node and returns its certificate (PEM) with it.
type Signer func(data []byte) (sig, cert []byte, err error)

// Verifier checks a signature against the cluster's CA and returns the name of
// the node that made it.
type Verifier func(data, sig, cert []byte) (node string, err error)

// Seal lists every file of dir with size and digest in manifest.json, signs
// that and puts the signature into manifest.sig. When it returns, all of the
// directory is on the disk. The manifest comes last: a directory without it was
// never finished.
func Seal(dir string, m Manifest, sign Signer) error {
	files, err := digestFiles(dir)
	if err != nil {
		return fmt.Errorf("seal %s: %w", dir, err)
	}
	m.Version, m.Files = ManifestVersion, files
	data, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return fmt.Errorf("seal %s: %w", dir, err)
	}
	sig, cert, err := sign(data)
	if err != nil {
		return fmt.Errorf("seal %s: sign: %w", dir, err)
	}
	sealed, err := json.Marshal(seal{Signature: sig, Certificate: cert})
	if err != nil {
		return fmt.Errorf("seal %s: %w", dir, err)
	}
	if err := durable.WriteFile(filepath.Join(dir, signatureName), sealed, filePerm); err != nil {
		return fmt.Errorf("seal %s: %w", dir, err)
	}
	if err := durable.WriteFile(filepath.Join(dir, manifestName), data, filePerm); err != nil {
		return fmt.Errorf("seal %s: %w", dir, err)
	}
	return nil
}

// Open checks a sealed directory completely and returns its manifest: the
// signature first, then the version, then that the files are exactly those that
// are listed, with their sizes and digests. Until it has returned without an
// error nothing in dir may be used; afterwards nobody but root may be able to
// write there. Errors wrap ErrSignature, ErrVersion, ErrMissing, ErrExtra,
// ErrSize, ErrDigest or ErrFormat.
func Open(dir string, verify Verifier) (Manifest, error) {
	m, err := openManifest(dir, verify)
	if err != nil {
		return Manifest{}, fmt.Errorf("open sealed images %s: %w", dir, err)
	}
	if err := checkListing(dir, m.Files); err != nil {
		return Manifest{}, fmt.Errorf("open sealed images %s: %w", dir, err)
	}
	buf := make([]byte, copyChunk)
	for _, f := range m.Files {
		if err := checkFile(dir, f, buf); err != nil {
			return Manifest{}, fmt.Errorf("open sealed images %s: %w", dir, err)
		}
	}
	return m, nil
}

func openManifest(dir string, verify Verifier) (Manifest, error) {
	data, err := readBounded(filepath.Join(dir, manifestName), maxManifest)
	if err != nil {
		return Manifest{}, err
	}
	sealed, err := readBounded(filepath.Join(dir, signatureName), maxSignature)
	if err != nil {
		return Manifest{}, err
	}
	var s seal
	if err := decodeStrict(sealed, &s); err != nil {
		return Manifest{}, fmt.Errorf("%w: %s: %w", ErrSignature, signatureName, err)
	}
	node, err := verify(data, s.Signature, s.Certificate)
	if err != nil {
		return Manifest{}, fmt.Errorf("%w: %w", ErrSignature, err)
	}
	m, err := parseManifest(data)
	if err != nil {
		return Manifest{}, fmt.Errorf("%s: %w", manifestName, err)
	}
	if m.Node != node {
		return Manifest{}, fmt.Errorf("%w: made by node %q, signed by node %q", ErrSignature, m.Node, node)
	}
	return m, nil
}

// checkListing compares the names in dir with the manifest. A file that is not
// listed is as bad as one that is missing: CRIU reads what it finds.
func checkListing(dir string, files []File) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	listed := make(map[string]bool, len(files))
	for _, f := range files {
		listed[f.Name] = true
	}
	for _, e := range entries {
		if isSeal(e.Name()) || isClaim(e.Name()) {
			continue
		}
		if !listed[e.Name()] || !e.Type().IsRegular() {
			return fmt.Errorf("%s: %w", e.Name(), ErrExtra)
		}
		delete(listed, e.Name())
	}
	for _, f := range files {
		if listed[f.Name] {
			return fmt.Errorf("%s: %w", f.Name, ErrMissing)
		}
	}
	return nil
}

func checkFile(dir string, want File, buf []byte) error {
	f, err := openRegular(filepath.Join(dir, want.Name))
	if err != nil {
		return err
	}
	defer f.Close()
	got, err := digest(f, want.Name, want.Size, buf)
	switch {
	case err != nil:
		return err
	case got.Size != want.Size:
		return fmt.Errorf("%s: %w: it has %d bytes, the manifest says %d", want.Name, ErrSize, got.Size, want.Size)
	case got.SHA256 != want.SHA256:
		return fmt.Errorf("%s: %w", want.Name, ErrDigest)
	}
	return nil
}

// digestFiles digests every file of dir and brings it to the disk.
func digestFiles(dir string) ([]File, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var files []File
	buf := make([]byte, copyChunk)
	for _, e := range entries {
		if isSeal(e.Name()) || isClaim(e.Name()) {
			continue
		}
		file, err := digestDurable(filepath.Join(dir, e.Name()), e.Name(), buf)
		if err != nil {
			return nil, err
		}
		files = append(files, file)
	}
	return files, checkFiles(files)
}

func digestDurable(path, name string, buf []byte) (File, error) {
	f, err := openRegular(path)
	if err != nil {
		return File{}, err
	}
	file, err := digest(f, name, -1, buf)
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return File{}, err
	}
	return file, nil
}

// digest reads f to its end, or one byte further than limit if that is not
// negative.
func digest(f io.Reader, name string, limit int64, buf []byte) (File, error) {
	r := f
	if limit >= 0 && limit < 1<<63-1 {
		r = io.LimitReader(f, limit+1)
	}
	hash := sha256.New()
	n, err := io.CopyBuffer(onlyWriter{hash}, onlyReader{r}, buf)
	if err != nil {
		return File{}, fmt.Errorf("%s: %w", name, err)
	}
	return File{Name: name, Size: n, SHA256: hex.EncodeToString(hash.Sum(nil))}, nil
}

// openRegular opens a regular file; it follows no symbolic link and waits for
// no pipe.
func openRegular(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("%s: %w: no regular file", path, ErrExtra)
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

func readBounded(path string, limit int64) ([]byte, error) {
	f, err := openRegular(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("%s: %w", filepath.Base(path), ErrMissing)
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	tooLarge := fmt.Errorf("%s: %w: more than %d bytes", filepath.Base(path), ErrSize, limit)
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if info.Size() > limit {
		return nil, tooLarge
	}
	data, err := io.ReadAll(io.LimitReader(f, limit+1)) // it may grow meanwhile
	if err == nil && int64(len(data)) > limit {
		err = tooLarge
	}
	return data, err
}
