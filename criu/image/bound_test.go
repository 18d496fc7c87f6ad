package image

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
)

// vast is a file that names a size and has no content.
func vast(t testing.TB, name string, size int64) (dir string) {
	t.Helper()
	dir = t.TempDir()
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(path, size); err != nil {
		t.Fatal(err)
	}
	return dir
}

func TestImagesThatAreVastAreNotRead(t *testing.T) {
	const size = 1 << 40 // more than any machine that runs this could take in
	for name, read := range map[string]func(dir string) error{
		"pagemap-7.img":   func(dir string) error { _, err := Pagemaps(dir); return err },
		"timens-9.img":    func(dir string) error { _, _, err := Clocks(dir); return err },
		"migrate-network": func(dir string) error { _, err := NetworkOf(dir); return err },
		"files.img":       func(dir string) error { return NameFiles(dir, nil, 0) },
		"pstree.img":      func(dir string) error { _, err := RestartAreas(dir); return err },
	} {
		if err := read(vast(t, name, size)); !errors.Is(err, ErrSize) {
			t.Errorf("%s: %v, want ErrSize", name, err)
		}
	}
}
