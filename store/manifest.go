package store

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/migrate-hpc/migrate/criu/image"
	"github.com/migrate-hpc/migrate/stream"
)

// ManifestVersion is the version that Draft.Seal writes and the highest that Open takes.
// Version 1 is of images without the record of who the job's threads are, and has one
// digest for the whole of a file, which must be read once more than it is used.
const ManifestVersion = 2

// PieceSize is how much of a file has a digest of its own, in bytes: it is checked before
// it is used, and waits in memory until then.
const PieceSize = 4 << 20

const (
	manifestName  = "manifest.json"
	signatureName = "manifest.sig"

	// maxManifest allows for MaxFiles entries of the longest sensible names.
	maxManifest  = 64 << 20
	maxSignature = 64 << 10
	digestSize   = 32
)

// What Open found wrong, beside image.ErrMissing and its relatives. Every error wraps one of these
// and names the file.
var (
	ErrDigest    = errors.New("digest is wrong")
	ErrSignature = errors.New("signature is not valid")
	ErrVersion   = errors.New("version of the manifest is not known")
)

// Clock holds the job's clocks at the freeze. Mono and Boot are the job's own
// readings, inside its time namespace; Real is the wall clock of the node. All
// are counted from the clock's zero, in nanoseconds in the file.
type Clock struct {
	Mono time.Duration `json:"mono_ns"`
	Boot time.Duration `json:"boot_ns"`
	Real time.Duration `json:"real_ns"`
}

// File is one file of a sealed directory.
type File struct {
	Name   string `json:"name"`
	Size   int64  `json:"size"`             // bytes
	SHA256 string `json:"sha256,omitempty"` // in version 1: lower-case hexadecimal
	Pieces []byte `json:"pieces,omitempty"` // from version 2 on: SHA-256 of each piece, one after the other
}

// Manifest says what a sealed directory holds and where it comes from. Version
// and Files are filled in by Seal.
type Manifest struct {
	Version int             `json:"version"`
	Job     json.RawMessage `json:"job"`    // the job's record, not read here
	Node    string          `json:"node"`   // the node that made and signed it
	Kernel  string          `json:"kernel"` // its kernel release
	CRIU    string          `json:"criu"`   // the version of CRIU that dumped
	Epoch   int64           `json:"epoch"`
	Created time.Time       `json:"created"`
	Clock   Clock           `json:"clock"`
	Extra   json.RawMessage `json:"extra,omitempty"` // for the caller, not read here
	Files   []File          `json:"files"`           // sorted by name
}

// Recorded tells whether the images must hold the record that [Identity] reads. What is
// signed says so: nobody makes a directory look older than it is.
func (m Manifest) Recorded() bool { return m.Version >= 2 }

// seal is the content of the signature file. Go's JSON puts byte slices in
// base64.
type seal struct {
	Signature   []byte `json:"signature"`
	Certificate []byte `json:"certificate"` // PEM
}

// parseManifest decodes a manifest whose signature was found valid. A version
// that is not known is told before anything else is looked at.
func parseManifest(data []byte) (Manifest, error) {
	var version struct {
		Version int `json:"version"`
	}
	if err := json.Unmarshal(data, &version); err != nil {
		return Manifest{}, fmt.Errorf("%w: %w", image.ErrFormat, err)
	}
	if version.Version < 1 || version.Version > ManifestVersion {
		return Manifest{}, fmt.Errorf("%w: it has %d, this migrate reads 1 to %d", ErrVersion, version.Version, ManifestVersion)
	}
	var m Manifest
	if err := decodeStrict(data, &m); err != nil {
		return Manifest{}, err
	}
	return m, checkFiles(m.Version, m.Files)
}

// decodeStrict decodes exactly one JSON value without unknown fields.
func decodeStrict(data []byte, v any) error {
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		return fmt.Errorf("%w: %w", image.ErrFormat, err)
	}
	if _, err := d.Token(); err != io.EOF {
		return fmt.Errorf("%w: data behind the end", image.ErrFormat)
	}
	return nil
}

func checkFiles(version int, files []File) error {
	if len(files) > stream.MaxFiles {
		return fmt.Errorf("%w: %d files, at most %d", image.ErrFormat, len(files), stream.MaxFiles)
	}
	for i, f := range files {
		if err := stream.CheckName(f.Name); err != nil {
			return err
		}
		if f.Size < 0 || !f.hasDigests(version) {
			return fmt.Errorf("%w: entry of %s", image.ErrFormat, f.Name)
		}
		if isSeal(f.Name) || i > 0 && f.Name <= files[i-1].Name {
			return fmt.Errorf("%w: %s is listed out of order or must not be listed", image.ErrFormat, f.Name)
		}
	}
	return nil
}

// hasDigests tells whether the entry has the digests of its version and no others.
func (f File) hasDigests(version int) bool {
	if version == 1 {
		_, err := hex.DecodeString(f.SHA256)
		return err == nil && len(f.SHA256) == 2*digestSize && f.Pieces == nil
	}
	pieces := f.Size / PieceSize
	if f.Size%PieceSize != 0 {
		pieces++
	}
	return f.SHA256 == "" && int64(len(f.Pieces))/digestSize == pieces && len(f.Pieces)%digestSize == 0
}

// SealNames are the files of a sealed directory beside those that are listed.
func SealNames() []string { return []string{manifestName, signatureName} }

func isSeal(name string) bool { return name == manifestName || name == signatureName }
