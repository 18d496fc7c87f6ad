package testenv

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
	"unicode/utf8"
)

// Golden compares got with a file in the package's testdata. With UPDATE_GOLDEN=1 it writes the file
// instead.
func Golden(t testing.TB, name string, got []byte) {
	t.Helper()
	if os.Getenv("UPDATE_GOLDEN") == "1" {
		//house:allow os.WriteFile: it is for the next commit, not for the next power cut
		if err := os.WriteFile(filepath.Join("testdata", name), got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if want := ReadGolden(t, name); !bytes.Equal(got, want) {
		verb := "%q"
		if utf8.Valid(got) {
			verb = "%s"
		}
		t.Errorf("%s has changed; a format that does needs a new version and a new file\ngot\n"+verb+"\nwant\n"+verb, name, got, want)
	}
}

// ReadGolden reads a file in the package's testdata.
func ReadGolden(t testing.TB, name string) []byte {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	return data
}
