package node

import (
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/migrate-hpc/migrate/testenv"
)

func TestCRIULogIsKeptFromItsEndAndNotForEver(t *testing.T) {
	a, src := &Node{Log: slog.New(slog.DiscardHandler), Paths: Paths{State: t.TempDir()}}, filepath.Join(t.TempDir(), "dump.log")
	if got := a.SaveCRIULog(src, "none"); got != "" {
		t.Errorf("a log that is not there is kept at %s", got)
	}
	text := strings.Repeat("x", maxLogSize) + "the end"
	if err := os.WriteFile(src, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	var last string
	for i := range maxLogs + 5 {
		last = a.SaveCRIULog(src, fmt.Sprintf("m%02d-dump.log", i))
		when := time.Now().Add(time.Duration(i-100) * time.Hour)
		if err := os.Chtimes(last, when, when); err != nil {
			t.Fatal(err)
		}
	}
	kept := testenv.Names(t, filepath.Dir(last))
	if len(kept) != maxLogs || kept[0] != "m05-dump.log" || kept[len(kept)-1] != filepath.Base(last) {
		t.Errorf("kept are %v", kept)
	}
	data, err := os.ReadFile(last)
	if err != nil || len(data) != maxLogSize || !strings.HasSuffix(string(data), "the end") {
		t.Errorf("%d bytes (%v)", len(data), err)
	}
	if st, err := os.Stat(filepath.Dir(last)); err != nil || st.Mode().Perm() != 0o700 {
		t.Errorf("the directory has mode %v (%v)", st.Mode(), err)
	}
}
