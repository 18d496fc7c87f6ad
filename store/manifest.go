package store

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/migrate-hpc/migrate/criu/image"
	"github.com/migrate-hpc/migrate/exactjson"
	"github.com/migrate-hpc/migrate/stream"
)

// ManifestVersion is the version that Seal signs and the highest that Unseal takes.
// Version 1 is of images without the record of who the job's threads are, and has one
// digest for the whole of a file, which must be read once more than it is used.
const ManifestVersion = 2

// The two parts of a seal.
const (
	ManifestName  = "manifest.json"
	SignatureName = "manifest.sig"

	// MaxManifest, in bytes, allows for MaxFiles entries of the longest sensible names.
	MaxManifest  = 64 << 20
	MaxSignature = 64 << 10
)

// Signer signs data as this node and returns its certificate (PEM) with it.
type Signer func(data []byte) (sig, cert []byte, err error)

// Verifier checks a signature against the cluster's CA and returns the name of
// the node that made it.
type Verifier func(data, sig, cert []byte) (node string, err error)

// What a reader of a checkpoint finds wrong, beside image.ErrMissing and its relatives. Every
// error wraps one of these and names the file.
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

// File is one file of a checkpoint.
type File struct {
	Name   string `json:"name"`
	Size   int64  `json:"size"`             // bytes
	SHA256 string `json:"sha256,omitempty"` // in version 1: lower-case hexadecimal
	Pieces []byte `json:"pieces,omitempty"` // from version 2 on: SHA-256 of each piece, one after the other
}

// Manifest says what a checkpoint holds and where it comes from. A form fills in Extra and
// Files, and Seal the version.
type Manifest struct {
	Version int             `json:"version"`
	Job     json.RawMessage `json:"job"`    // the job's record, not read here
	Node    string          `json:"node"`   // the node that made and signed it
	Kernel  string          `json:"kernel"` // its kernel release
	CRIU    string          `json:"criu"`   // the version of CRIU that dumped
	Epoch   int64           `json:"epoch"`
	Created time.Time       `json:"created"`
	Clock   Clock           `json:"clock"`
	Extra   json.RawMessage `json:"extra,omitempty"` // for the form, not read here
	Files   []File          `json:"files"`           // sorted by name
}

// Recorded tells whether the images must hold the record that [Identity] reads. What is
// signed says so: nothing makes a checkpoint look older than it is.
func (m Manifest) Recorded() bool { return m.Version >= 2 }

// seal is the content of the signature file. Go's JSON puts byte slices in
// base64.
type seal struct {
	Signature   []byte `json:"signature"`
	Certificate []byte `json:"certificate"` // PEM
}

// Seal completes a manifest and signs it. It returns what belongs under the names ManifestName and
// SignatureName.
func Seal(m Manifest, sign Signer) (manifest, signature []byte, err error) {
	m.Version = ManifestVersion
	slices.SortFunc(m.Files, func(a, b File) int { return strings.Compare(a.Name, b.Name) })
	if err := checkFiles(m.Version, m.Files); err != nil {
		return nil, nil, err
	}
	data, err := exactjson.MarshalIndent(m, "", "  ")
	if err != nil {
		return nil, nil, err
	}
	sig, cert, err := sign(data)
	if err != nil {
		return nil, nil, fmt.Errorf("sign: %w", err)
	}
	sealed, err := exactjson.Marshal(seal{Signature: sig, Certificate: cert})
	return data, sealed, err
}

// Unseal checks the signature first, and only then reads the manifest.
func Unseal(manifest, signature []byte, verify Verifier) (Manifest, error) {
	var s seal
	if decodeStrict(signature, &s) != nil { // nothing says yet whose file it is: so its content stays untold
		return Manifest{}, fmt.Errorf("%w: %s does not hold one", ErrSignature, SignatureName)
	}
	node, err := verify(manifest, s.Signature, s.Certificate)
	if err != nil {
		return Manifest{}, fmt.Errorf("%w: %w", ErrSignature, err)
	}
	m, err := parseManifest(manifest)
	if err != nil {
		return Manifest{}, fmt.Errorf("%s: %w", ManifestName, err)
	}
	if m.Node != node {
		return Manifest{}, fmt.Errorf("%w: made by node %q, signed by node %q", ErrSignature, m.Node, node)
	}
	return m, nil
}

// parseManifest decodes a manifest whose signature was found valid. A version
// that is not known is told before anything else is looked at.
func parseManifest(data []byte) (Manifest, error) {
	var version struct {
		Version int `json:"version"`
	}
	if err := exactjson.Unmarshal(data, &version); err != nil {
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
	d := exactjson.NewDecoder(bytes.NewReader(data))
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
		if IsSeal(f.Name) || i > 0 && f.Name <= files[i-1].Name {
			return fmt.Errorf("%w: %s is listed out of order or must not be listed", image.ErrFormat, f.Name)
		}
	}
	return nil
}

// SealNames are the names of a checkpoint's files beside those that are listed.
func SealNames() []string { return []string{ManifestName, SignatureName} }

func IsSeal(name string) bool { return name == ManifestName || name == SignatureName }
