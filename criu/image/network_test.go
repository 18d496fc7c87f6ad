package image

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestANetworkIsReadAsItWasNotedAndSavedIfNothingWas(t *testing.T) {
	dir := t.TempDir()
	if n, err := NetworkOf(dir); err != nil || n != NetworkSaved {
		t.Errorf("nothing noted: %q, %v", n, err)
	}
	for _, want := range []Network{NetworkEmpty, NetworkInherited, NetworkSaved} {
		if err := SetNetwork(dir, want); err != nil {
			t.Fatal(err)
		}
		if n, err := NetworkOf(dir); err != nil || n != want {
			t.Errorf("%q was read as %q, %v", want, n, err)
		}
	}
}

func TestANetworkThatNobodyKnowsIsRefused(t *testing.T) {
	dir := t.TempDir()
	for text, want := range map[string]error{"": ErrFormat, "Saved": ErrFormat, "saved\n": ErrFormat, strings.Repeat("x", 1000): ErrSize} {
		if err := os.WriteFile(filepath.Join(dir, networkName), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if n, err := NetworkOf(dir); !errors.Is(err, want) {
			t.Errorf("%.20q was read as %q, %v", text, n, err)
		}
	}
}
