package directory

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/migrate-hpc/migrate/criu/image"
	"github.com/migrate-hpc/migrate/store"
	"github.com/migrate-hpc/migrate/testenv"
)

// tricks are what the user of a directory can do to a file in it, called a.img, at any time.
// beside is a file of the same length that has another name.
func tricks(t testing.TB) map[string]func(dir string) {
	file := func(dir, text string) string {
		path := filepath.Join(dir, "..", "mine")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Error(err)
		}
		return path
	}
	over := func(make func(dir, temp string) error) func(dir string) {
		return func(dir string) {
			temp := filepath.Join(dir, "..", "temp")
			if err := errors.Join(make(dir, temp), os.Rename(temp, filepath.Join(dir, "a.img"))); err != nil {
				t.Error(err)
			}
		}
	}
	return map[string]func(dir string){
		"a file": over(func(dir, temp string) error { return os.Rename(file(dir, strings.Repeat("F", len(aImg))), temp) }),
		"FIFO":   over(func(_, temp string) error { return unix.Mkfifo(temp, 0o600) }),
		"link":   over(func(dir, temp string) error { return os.Symlink(file(dir, aImg), temp) }),
		"socket": over(func(_, temp string) error { return unix.Mknod(temp, unix.S_IFSOCK|0o600, 0) }),
		"directory": func(dir string) {
			a := filepath.Join(dir, "a.img")
			if err := errors.Join(os.RemoveAll(a), os.Mkdir(a, 0o700)); err != nil {
				t.Error(err)
			}
		},
		"hard link": over(func(dir, temp string) error { return os.Link(file(dir, strings.Repeat("H", len(aImg))), temp) }),
		"nothing":   func(dir string) { remove(t, dir, "a.img") },
		"cut":       func(dir string) { change(t, dir, "a.img", aImg[:1]) },
		"written":   func(dir string) { change(t, dir, "a.img", strings.Repeat("W", len(aImg))) },
		"longer":    func(dir string) { change(t, dir, "a.img", aImg+"more") },
		"a file more": func(dir string) {
			if err := os.WriteFile(filepath.Join(dir, "b.img"), nil, 0o600); err != nil {
				t.Error(err)
			}
		},
	}
}

// aImg is more than one piece.
var aImg = strings.Repeat("the bytes of a job. ", store.PieceSize/20+10)

// used reads a.img of a sealed directory, as whoever restores it.
func used(s *Sealed) (string, error) {
	var b bytes.Buffer
	_, err := io.Copy(&b, s.Reader(0))
	return b.String(), err
}

// trueOr wants an error, or the bytes that were written.
func trueOr(t *testing.T, got string, err error) {
	t.Helper()
	if err == nil && got != aImg {
		t.Errorf("it was taken, and has %d bytes, %.20q", len(got), got)
	}
	for _, known := range []error{image.ErrMissing, image.ErrExtra, image.ErrSize, store.ErrDigest} {
		if err == nil || errors.Is(err, known) {
			return
		}
	}
	t.Errorf("the error does not say what was done to it: %v", err)
}

func TestWhatIsSignedIsWhatWasWrittenWhateverHasItsName(t *testing.T) {
	for name, trick := range tricks(t) {
		for step := range 4 {
			dir := filepath.Join(t.TempDir(), "saved")
			if err := os.Mkdir(dir, 0o700); err != nil {
				t.Fatal(err)
			}
			now := func(at int) {
				if at == step {
					trick(dir)
				}
			}
			d, err := NewFiles(at(t, dir), []string{"a.img"})
			if err != nil {
				t.Fatal(err)
			}
			now(0)
			if _, err := io.WriteString(d.All()[0], aImg[:100]); err != nil {
				t.Fatal(err)
			}
			now(1)
			if _, err := io.WriteString(d.All()[0], aImg[100:]); err != nil {
				t.Fatal(err)
			}
			sign := signAs("")
			sealed := d.Seal(sampleManifest(), func(data []byte) (sig, cert []byte, err error) {
				now(2)
				return sign(data)
			})
			now(3)
			if err := d.Close(); err != nil {
				t.Error(err)
			}
			t.Run(name, func(t *testing.T) {
				if sealed != nil && !errors.Is(sealed, image.ErrExtra) && !errors.Is(sealed, os.ErrNotExist) {
					t.Errorf("step %d: not sealed: %v", step, sealed)
				}
				if sealed == nil && step < 3 && !strings.Contains("cut written longer", name) {
					t.Errorf("step %d: sealed, though nobody could restore it", step)
				}
				s, err := Open(at(t, dir), self, verifyAs("n1"))
				if err != nil {
					trueOr(t, "", err)
					return
				}
				defer s.Close()
				got, err := used(s)
				trueOr(t, got, err)
			})
		}
	}
}

// Each step of Open is one at which a name may come to mean something else.
func TestWhatIsUsedOfADirectoryIsWhatWasSealedWhateverItsUserDoes(t *testing.T) {
	for name, trick := range tricks(t) {
		const afterOpen, whileRead, last = 5, 6, 6
		for step := range last + 1 {
			dir := filepath.Join(t.TempDir(), "saved")
			if err := os.Mkdir(dir, 0o700); err != nil {
				t.Fatal(err)
			}
			d := drafted(t, dir, map[string]string{"a.img": aImg})
			if err := errors.Join(d.Seal(sampleManifest(), signAs("")), d.Close()); err != nil {
				t.Fatal(err)
			}
			calls := 0
			as := func(do func() error) error {
				if calls++; calls-1 == step { // before the manifest, the signature, the file
					trick(dir)
				}
				return do()
			}
			verify := func(data, sig, cert []byte) (string, error) {
				if step == 3 {
					trick(dir)
				}
				return verifyAs("n1")(data, sig, cert)
			}
			t.Run(name, func(t *testing.T) {
				s, err := Open(at(t, dir), as, verify)
				if err != nil {
					trueOr(t, "", err)
					return
				}
				defer s.Close()
				if step == afterOpen {
					trick(dir)
				}
				r := s.Reader(0)
				head := make([]byte, 100)
				if _, err := io.ReadFull(r, head); err != nil {
					trueOr(t, "", err)
					return
				}
				if step == whileRead {
					trick(dir)
				}
				rest, err := io.ReadAll(r)
				if !strings.HasPrefix(aImg, string(head)+string(rest)) {
					t.Errorf("step %d: bytes came out that nobody has signed", step)
				}
				trueOr(t, string(head)+string(rest), err)
			})
		}
	}
}

// The rights of Open's thread are for files that nobody else could have put there.
func TestOpensRightsAreForRootsOwnFilesOnly(t *testing.T) {
	testenv.NeedRoot(t)
	denied := func(func() error) error { return &os.PathError{Op: "open", Path: "a.img", Err: unix.EACCES} }
	for name, c := range map[string]struct {
		harm func(dir string) error
		want error
	}{
		"root's":             {func(string) error { return nil }, nil},
		"another user's":     {func(dir string) error { return os.Chown(filepath.Join(dir, "a.img"), 1000, 1000) }, unix.EACCES},
		"one that has links": {func(dir string) error { return os.Link(filepath.Join(dir, "a.img"), dir+".link") }, unix.EACCES},
		"one for others":     {func(dir string) error { return os.Chmod(filepath.Join(dir, "a.img"), 0o640) }, unix.EACCES},
	} {
		dir := sealed(t)
		if err := c.harm(dir); err != nil {
			t.Fatal(err)
		}
		s, err := Open(at(t, dir), denied, verifyAs("n1"))
		if !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
		if err == nil {
			s.Close()
		}
	}
}

func TestASignatureFileSaysNothingOfWhatItHolds(t *testing.T) {
	dir := sealed(t)
	change(t, dir, store.SignatureName, "secret")
	_, err := Open(at(t, dir), self, verifyAs("n1"))
	if !errors.Is(err, store.ErrSignature) || strings.Contains(err.Error(), "'s'") || strings.Contains(err.Error(), "secret") {
		t.Errorf("got %v", err)
	}
}

func TestADraftReplacesNothing(t *testing.T) {
	for _, name := range []string{"a.img", store.ManifestName, store.SignatureName} {
		for trick, put := range map[string]func(path string) error{
			"file":          func(path string) error { return os.WriteFile(path, []byte("precious"), 0o600) },
			"dangling link": func(path string) error { return os.Symlink(path+".elsewhere", path) },
		} {
			dir := t.TempDir()
			if err := put(filepath.Join(dir, name)); err != nil {
				t.Fatal(err)
			}
			if d, err := NewFiles(at(t, dir), []string{"a.img"}); !errors.Is(err, os.ErrExist) {
				t.Errorf("%s as %s: %v, %v", trick, name, d, err)
			}
		}
	}
}
