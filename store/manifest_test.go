package store

import (
	"os"
	"path/filepath"
	"testing"
)

func FuzzManifest(f *testing.F) {
	golden, err := filepath.Glob("directory/testdata/format-*/sealed/" + ManifestName)
	if err != nil || len(golden) != 2 {
		f.Fatal(golden, err)
	}
	for _, path := range golden {
		data, err := os.ReadFile(path)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		m, err := parseManifest(data)
		if err == nil && (m.Version < 1 || m.Version > ManifestVersion || checkFiles(m.Version, m.Files) != nil) {
			t.Errorf("taken: %+v", m)
		}
	})
}
