package directory

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/migrate-hpc/migrate/criu/image"
	"github.com/migrate-hpc/migrate/store"
	"github.com/migrate-hpc/migrate/stream"
)

const (
	sealedDir  = "testdata/format-1/sealed"
	sealedDir2 = "testdata/format-2/sealed"
)

var errForged = errors.New("forged")

// testKey is a fixed key, so that the golden files can be made again.
func testKey() ed25519.PrivateKey {
	return ed25519.NewKeyFromSeed(bytes.Repeat([]byte{1}, ed25519.SeedSize))
}

func signAs(cert string) store.Signer {
	return func(data []byte) (sig, der []byte, err error) {
		return ed25519.Sign(testKey(), data), []byte(cert), nil
	}
}

// verifyAs accepts testKey's signatures and says that node made them.
func verifyAs(node string) store.Verifier {
	return func(data, sig, _ []byte) (string, error) {
		if !ed25519.Verify(testKey().Public().(ed25519.PublicKey), data, sig) {
			return "", errForged
		}
		return node, nil
	}
}

func sampleManifest() store.Manifest {
	return store.Manifest{
		Job: json.RawMessage(`{"id":"j1"}`), Node: "n1", Kernel: "6.12.57", CRIU: "4.2.1", Epoch: 3,
		Created: time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC),
		Clock:   store.Clock{Mono: 1, Boot: 2, Real: 3 * time.Second},
	}
}

// at opens a directory.
func at(t testing.TB, dir string) *os.File {
	t.Helper()
	f, err := os.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

// self has the rights that it has.
func self(do func() error) error { return do() }

// opened opens and reads a sealed directory to its end, as somebody who uses it does.
func opened(t testing.TB, dir string, verify store.Verifier) (store.Manifest, error) {
	t.Helper()
	s, err := Open(at(t, dir), self, verify)
	if err != nil {
		return store.Manifest{}, err
	}
	defer s.Close()
	for i := range s.Manifest.Files {
		if _, err := io.Copy(io.Discard, s.Reader(i)); err != nil {
			return store.Manifest{}, err
		}
	}
	return s.Manifest, nil
}

// drafted is a directory with files that have this content.
func drafted(t testing.TB, dir string, files map[string]string) *Files {
	t.Helper()
	names := slices.Sorted(maps.Keys(files))
	d, err := NewFiles(at(t, dir), names)
	if err != nil {
		t.Fatal(err)
	}
	for i, f := range d.All() {
		if _, err := io.WriteString(f, files[names[i]]); err != nil {
			t.Fatal(err)
		}
	}
	return d
}

// sealed returns a sealed directory with three files.
func sealed(t testing.TB) string {
	t.Helper()
	dir := t.TempDir()
	d := drafted(t, dir, map[string]string{"a.img": "first", "b.img": "second", "empty.img": ""})
	if err := errors.Join(d.Seal(sampleManifest(), signAs("certificate")), d.Close()); err != nil {
		t.Fatal(err)
	}
	return dir
}

// sealedWhole is one of version 1, with these files beside it.
func sealedWhole(t testing.TB) string {
	t.Helper()
	m := sampleManifest()
	m.Version = 1
	files := map[string]string{"a.img": "first", "b.img": "second", "empty.img": ""}
	for _, name := range slices.Sorted(maps.Keys(files)) {
		sum := sha256.Sum256([]byte(files[name]))
		m.Files = append(m.Files, store.File{Name: name, Size: int64(len(files[name])), SHA256: hex.EncodeToString(sum[:])})
	}
	data, err := json.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	dir := resealed(t, string(data))
	for name, text := range files {
		change(t, dir, name, text)
	}
	return dir
}

func TestASealedDirectoryOpensWithItsManifest(t *testing.T) {
	m, err := opened(t, sealed(t), verifyAs("n1"))
	if err != nil {
		t.Fatal(err)
	}
	want := sampleManifest()
	want.Version = store.ManifestVersion
	if len(m.Files) != 3 || m.Files[0].Name != "a.img" || m.Files[1].Size != 6 {
		t.Errorf("files %+v", m.Files)
	}
	var job bytes.Buffer
	if err := json.Compact(&job, m.Job); err != nil {
		t.Fatal(err)
	}
	m.Files, m.Job = nil, job.Bytes()
	if !reflect.DeepEqual(m, want) {
		t.Errorf("got %+v, want %+v", m, want)
	}
}

// A directory that a version sealed must open for as long as that is read.
func TestTheGoldenSealedDirectoriesOpen(t *testing.T) {
	for _, dir := range []string{sealedDir, sealedDir2} {
		m, err := opened(t, dir, verifyAs("n1"))
		if err != nil || m.Epoch != 3 || len(m.Files) != 2 {
			t.Errorf("%s: got %+v, %v", dir, m, err)
		}
	}
}

func change(t testing.TB, dir, name, text string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func remove(t testing.TB, dir, name string) {
	t.Helper()
	if err := os.Remove(filepath.Join(dir, name)); err != nil {
		t.Fatal(err)
	}
}

func TestWhatWasDoneToASealedDirectoryIsTold(t *testing.T) {
	for name, c := range map[string]struct {
		harm func(dir string)
		want error
	}{
		"byte changed":        {func(d string) { change(t, d, "a.img", "First") }, store.ErrDigest},
		"file longer":         {func(d string) { change(t, d, "a.img", "first!") }, image.ErrSize},
		"file shorter":        {func(d string) { change(t, d, "a.img", "") }, image.ErrSize},
		"file gone":           {func(d string) { remove(t, d, "b.img") }, image.ErrMissing},
		"file added":          {func(d string) { change(t, d, "c.img", "") }, image.ErrExtra},
		"manifest gone":       {func(d string) { remove(t, d, store.ManifestName) }, image.ErrMissing},
		"signature gone":      {func(d string) { remove(t, d, store.SignatureName) }, image.ErrMissing},
		"signature no JSON":   {func(d string) { change(t, d, store.SignatureName, "x") }, store.ErrSignature},
		"signature of others": {func(d string) { change(t, d, store.SignatureName, `{"signature":"AAAA","certificate":""}`) }, store.ErrSignature},
		"manifest changed":    {func(d string) { change(t, d, store.ManifestName, held(t, d)+" ") }, store.ErrSignature},
		"file is a link": {func(d string) {
			remove(t, d, "a.img")
			if err := os.Symlink("b.img", filepath.Join(d, "a.img")); err != nil {
				t.Fatal(err)
			}
		}, image.ErrExtra},
	} {
		for version, dir := range map[int]string{1: sealedWhole(t), 2: sealed(t)} {
			c.harm(dir)
			if _, err := opened(t, dir, verifyAs("n1")); !errors.Is(err, c.want) {
				t.Errorf("%s, version %d: got %v, want %v", name, version, err, c.want)
			}
		}
	}
}

func TestTheSignerMustBeTheNodeThatTheManifestNames(t *testing.T) {
	if _, err := Open(at(t, sealed(t)), self, verifyAs("n2")); !errors.Is(err, store.ErrSignature) {
		t.Errorf("got %v", err)
	}
}

// resealed puts a manifest into a directory and signs it as it is.
func resealed(t testing.TB, manifest string) string {
	t.Helper()
	dir := t.TempDir()
	s, err := json.Marshal(map[string][]byte{"signature": ed25519.Sign(testKey(), []byte(manifest)), "certificate": nil})
	if err != nil {
		t.Fatal(err)
	}
	change(t, dir, store.SignatureName, string(s))
	change(t, dir, store.ManifestName, manifest)
	return dir
}

func TestASignedManifestThatIsNotUnderstoodIsRefused(t *testing.T) {
	const digest = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
	for name, c := range map[string]struct {
		manifest string
		want     error
	}{
		"later version":  {`{"version":3,"new":1}`, store.ErrVersion},
		"version 0":      {`{"version":0}`, store.ErrVersion},
		"pieces in 1":    {`{"version":1,"files":[{"name":"x","size":0,"sha256":"` + digest + `","pieces":"AAAA"}]}`, image.ErrFormat},
		"whole in 2":     {`{"version":2,"files":[{"name":"x","size":0,"sha256":"` + digest + `"}]}`, image.ErrFormat},
		"a piece short":  {`{"version":2,"files":[{"name":"x","size":4194305,"pieces":"` + strings.Repeat("A", 43) + `="}]}`, image.ErrFormat},
		"a piece more":   {`{"version":2,"files":[{"name":"x","size":0,"pieces":"` + strings.Repeat("A", 43) + `="}]}`, image.ErrFormat},
		"half a piece":   {`{"version":2,"files":[{"name":"x","size":1,"pieces":"AAAA"}]}`, image.ErrFormat},
		"no version":     {`{}`, store.ErrVersion},
		"no JSON":        {`{`, image.ErrFormat},
		"unknown field":  {`{"version":1,"new":1}`, image.ErrFormat},
		"data behind":    {`{"version":1} {}`, image.ErrFormat},
		"path as name":   {`{"version":1,"files":[{"name":"../x","size":0,"sha256":"` + digest + `"}]}`, stream.ErrName},
		"short digest":   {`{"version":1,"files":[{"name":"x","size":0,"sha256":"00"}]}`, image.ErrFormat},
		"negative size":  {`{"version":1,"files":[{"name":"x","size":-1,"sha256":"` + digest + `"}]}`, image.ErrFormat},
		"lists the seal": {`{"version":1,"files":[{"name":"manifest.sig","size":0,"sha256":"` + digest + `"}]}`, image.ErrFormat},
		"listed twice": {`{"version":1,"files":[{"name":"x","size":0,"sha256":"` + digest + `"},` +
			`{"name":"x","size":0,"sha256":"` + digest + `"}]}`, image.ErrFormat},
	} {
		if _, err := Open(at(t, resealed(t, c.manifest)), self, verifyAs("")); !errors.Is(err, c.want) {
			t.Errorf("%s: got %v, want %v", name, err, c.want)
		} else if err == nil {
			t.Errorf("%s: it was taken", name)
		}
	}
}

func TestWhatIsSignedSaysWhetherImagesHoldARecordOfTheThreads(t *testing.T) {
	for version, want := range map[int]bool{1: false, 2: true} {
		m, err := opened(t, resealed(t, fmt.Sprintf(`{"version":%d}`, version)), verifyAs(""))
		if err != nil || m.Recorded() != want {
			t.Errorf("version %d: %v, %v", version, m.Recorded(), err)
		}
	}
	dir := sealed(t)
	data, err := os.ReadFile(filepath.Join(dir, store.ManifestName))
	if err == nil {
		older := bytes.Replace(data, []byte(`"version": 2`), []byte(`"version": 1`), 1)
		if bytes.Equal(older, data) {
			t.Fatalf("no version 2 in %s", data)
		}
		err = os.WriteFile(filepath.Join(dir, store.ManifestName), older, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	if _, err := opened(t, dir, verifyAs("n1")); !errors.Is(err, store.ErrSignature) {
		t.Errorf("made to look older: %v", err)
	}
}

func TestAFailingSignerLeavesNoManifest(t *testing.T) {
	dir := t.TempDir()
	d := drafted(t, dir, map[string]string{"a.img": ""})
	defer d.Close()
	err := d.Seal(sampleManifest(), func([]byte) ([]byte, []byte, error) { return nil, nil, errForged })
	if !errors.Is(err, errForged) || held(t, dir) != "" {
		t.Errorf("got %v, files %v", err, held(t, dir))
	}
}

func TestFilesThatAreVastAreNotRead(t *testing.T) {
	const size = 1 << 40 // more than any machine that runs this could take in
	for name, read := range map[string]func(dir string) error{
		"restored-1.json": func(dir string) error { _, err := claimsIn(at(t, dir)); return err },
		"manifest.json":   func(dir string) error { _, err := Open(at(t, dir), self, nil); return err },
	} {
		dir := t.TempDir()
		path := filepath.Join(dir, name)
		if err := errors.Join(os.WriteFile(path, nil, 0o600), os.Truncate(path, size)); err != nil {
			t.Fatal(err)
		}
		if err := read(dir); !errors.Is(err, image.ErrSize) {
			t.Errorf("%s: %v, want ErrSize", name, err)
		}
	}
}

// held is the manifest of a directory, empty if it has none.
func held(t testing.TB, dir string) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(dir, store.ManifestName))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	return string(data)
}
