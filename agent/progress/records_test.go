package progress

import (
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/migrate-hpc/migrate/agent/api"
	"github.com/migrate-hpc/migrate/handoff"
)

func TestRecordsKeepTheNewest(t *testing.T) {
	s := &Records{Dir: filepath.Join(t.TempDir(), "records"), Log: slog.New(slog.DiscardHandler)}
	var first, last api.MoveRecord
	for i := range KeptRecords + 3 {
		last = api.MoveRecord{Move: string(handoff.NewMoveID())}
		if i == 0 {
			first = last
		}
		if err := s.Write(last); err != nil {
			t.Fatal(err)
		}
		when := time.Now().Add(time.Duration(i-2*KeptRecords) * time.Minute)
		if err := os.Chtimes(s.Path(last.Move), when, when); err != nil {
			t.Fatal(err)
		}
	}
	if kept := s.List(); len(kept) != KeptRecords {
		t.Errorf("%d are kept", len(kept))
	}
	if _, err := s.Get(handoff.MoveID(first.Move)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the oldest: %v", err)
	}
	if _, err := s.Get(handoff.MoveID(last.Move)); err != nil {
		t.Error(err)
	}
}

func TestRecordOfTheFirstVersionsKeepsItsDowntime(t *testing.T) {
	s := &Records{Dir: filepath.Join(t.TempDir(), "records"), Log: slog.New(slog.DiscardHandler)}
	for text, want := range map[string]time.Duration{`"stood_still":5`: 5, `"downtime":7`: 7, `"took":1`: 0} {
		m := handoff.NewMoveID()
		if err := os.MkdirAll(s.Dir, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(s.Path(string(m)), []byte(`{"move":"`+string(m)+`",`+text+`}`), 0o600); err != nil {
			t.Fatal(err)
		}
		if r, err := s.Get(m); err != nil || r.Downtime != want {
			t.Errorf("%s: %v, %v", text, r.Downtime, err)
		}
	}
}
