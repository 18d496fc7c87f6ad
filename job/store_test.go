package job

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/migrate-hpc/migrate/testenv"
)

func store(t *testing.T) *Store {
	t.Helper()
	s, err := OpenStore(filepath.Join(t.TempDir(), "jobs"))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func full() Record {
	at := time.Date(2026, 3, 4, 5, 6, 7, 8, time.UTC)
	return Record{
		ID: "jabcdefgh27", Spec: valid(), Epoch: 3, Created: at, Foreground: true,
		Cgroup:   map[string]string{"": "/migrate/jabcdefgh27", "freezer": "/migrate/jabcdefgh27"},
		MovedTo:  &Moved{Node: "b", Addr: "b.cluster:7070", Epoch: 3, At: at.Add(time.Hour)},
		Exit:     &Exit{Code: 1, Signal: 9, At: at.Add(2 * time.Hour), CPU: 90 * time.Minute},
		FromMove: "m0123456789abcdef", CPUBefore: time.Minute,
		Placements: []Placement{{Node: "a", From: at, To: at.Add(time.Hour), Epoch: 2}, {Node: "b", From: at.Add(time.Hour), Epoch: 3}},
	}
}

func create(t *testing.T, s *Store, r Record) Record {
	t.Helper()
	if err := s.Create(r); err != nil {
		t.Fatal(err)
	}
	return r
}

func TestARecordComesBackAsItWasStored(t *testing.T) {
	s := store(t)
	want := create(t, s, full())
	got, err := s.Get(want.ID)
	if err != nil {
		t.Fatal(err)
	}
	want.Format = Format
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
}

func TestFormat1OfTheRecordDoesNotChange(t *testing.T) {
	data, err := encode(full())
	if err != nil {
		t.Fatal(err)
	}
	testenv.Golden(t, "record-1.json", data)
}

func TestARecordWithoutAChecksumIsRead(t *testing.T) {
	data, err := os.ReadFile(filepath.Join("testdata", "record-1-unsealed.json"))
	if err != nil {
		t.Fatal(err)
	}
	s := store(t)
	r := create(t, s, full())
	if err := os.WriteFile(filepath.Join(s.Dir(r.ID), recordName), data, 0o600); err != nil {
		t.Fatal(err)
	}
	if got, err := s.Get(r.ID); err != nil || got.Spec.Name != r.Spec.Name {
		t.Errorf("%+v, %v", got, err)
	}
}

func TestAFlippedBitAnywhereInARecordIsNoticedOrOfNoAccount(t *testing.T) {
	s := store(t)
	r := create(t, s, full())
	path := filepath.Join(s.Dir(r.ID), recordName)
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	want, err := s.Get(r.ID)
	if err != nil {
		t.Fatal(err)
	}
	for i := range whole {
		data := bytes.Clone(whole)
		data[i] ^= 1 << (i % 8)
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		got, err := s.Get(r.ID)
		var damage *RecordError
		if err != nil && !errors.As(err, &damage) {
			t.Fatalf("byte %d: %v", i, err)
		}
		if err == nil && !reflect.DeepEqual(got, want) {
			t.Errorf("byte %d: the record is taken, and was changed", i)
		}
	}
}

func TestCreateRefusesASecondJobOfTheSameID(t *testing.T) {
	s := store(t)
	r := create(t, s, full())
	if err := s.Create(r); !errors.Is(err, ErrExists) {
		t.Errorf("error is %v, want ErrExists", err)
	}
	wantEntries(t, s, 1)
}

func TestCreateRefusesAnInvalidSpecAndLeavesNothing(t *testing.T) {
	s := store(t)
	r := full()
	r.Spec.Args = nil
	if err := s.Create(r); err == nil {
		t.Error("no error")
	}
	wantEntries(t, s, 0)
}

func TestUpdatesFromManyGoroutinesAreAllKept(t *testing.T) {
	s := store(t)
	r := full()
	r.Epoch = 0
	create(t, s, r)
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			if _, err := s.Update(r.ID, func(r *Record) error { r.Epoch++; return nil }); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	got, err := s.Get(r.ID)
	if err != nil {
		t.Fatal(err)
	}
	if got.Epoch != 20 {
		t.Errorf("epoch is %d after 20 updates", got.Epoch)
	}
}

func TestUpdateThatRefusesWritesNothing(t *testing.T) {
	s := store(t)
	r := create(t, s, full())
	refusal := errors.New("refused")
	_, err := s.Update(r.ID, func(r *Record) error { r.Epoch = 99; return refusal })
	if !errors.Is(err, refusal) {
		t.Errorf("error is %v", err)
	}
	if got, _ := s.Get(r.ID); got.Epoch != r.Epoch {
		t.Errorf("epoch became %d", got.Epoch)
	}
}

func TestUpdateCannotRenameAJob(t *testing.T) {
	s := store(t)
	r := create(t, s, full())
	if _, err := s.Update(r.ID, func(r *Record) error { r.ID = NewID(); return nil }); err == nil {
		t.Error("no error")
	}
}

func TestDamageInOneRecordDoesNotHideTheOthers(t *testing.T) {
	s := store(t)
	good := create(t, s, full())
	for name, content := range map[string]string{
		"cut short":  `{"format": 1, "id": "j`,
		"too new":    `{"format": 2, "id": "ID"}`,
		"other's id": `{"format": 1, "id": "jaaaaaaaaaa"}`,
		"empty":      ``,
	} {
		r := full()
		r.ID = NewID()
		create(t, s, r)
		path := filepath.Join(s.Dir(r.ID), recordName)
		if err := os.WriteFile(path, []byte(strings.ReplaceAll(content, "ID", string(r.ID))), 0o600); err != nil {
			t.Fatal(err)
		}
		records, err := s.List()
		if err == nil || !strings.Contains(err.Error(), string(r.ID)) {
			t.Errorf("%s: the error does not name the job: %v", name, err)
		}
		if len(records) != 1 || records[0].ID != good.ID {
			t.Errorf("%s: list is %v", name, records)
		}
	}
}

func TestAJobThatLostItsRecordIsReportedNotForgotten(t *testing.T) {
	s := store(t)
	r := create(t, s, full())
	if err := os.Remove(filepath.Join(s.Dir(r.ID), recordName)); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Get(r.ID); err == nil || errors.Is(err, ErrNotFound) {
		t.Errorf("error is %v", err)
	}
	if _, err := s.List(); err == nil {
		t.Error("List reports nothing")
	}
}

func TestListIsInOrderOfCreationAndIgnoresUnfinishedWork(t *testing.T) {
	s := store(t)
	var want []ID
	for i := range 3 {
		r := full()
		r.ID, r.Created = NewID(), r.Created.Add(time.Duration(i)*time.Hour)
		want = append(want, create(t, s, r).ID)
	}
	for _, name := range []string{".new-123", ".gone-jabcdefghij", "lost+found"} {
		if err := os.Mkdir(filepath.Join(s.dir, name), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	records, err := s.List()
	if err != nil {
		t.Fatal(err)
	}
	var got []ID
	for _, r := range records {
		got = append(got, r.ID)
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestRemoveTwiceIsRemoveOnce(t *testing.T) {
	s := store(t)
	r := create(t, s, full())
	for range 2 {
		if err := s.Remove(r.ID); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := s.Get(r.ID); !errors.Is(err, ErrNotFound) {
		t.Errorf("error is %v, want ErrNotFound", err)
	}
	if _, err := s.Update(r.ID, func(*Record) error { return nil }); !errors.Is(err, ErrNotFound) {
		t.Errorf("error is %v, want ErrNotFound", err)
	}
}

func TestNoIDLeadsOutOfTheStore(t *testing.T) {
	s := store(t)
	for _, id := range []ID{"", ".", "..", "../x", "j", "jabcdefgh2/", "jABCDEFGH27", "jabcdefgh27x", "jabcdefgh01"} {
		if _, err := s.Get(id); !errors.Is(err, ErrNotFound) {
			t.Errorf("Get(%q): %v", id, err)
		}
		if err := s.Remove(id); err == nil {
			t.Errorf("Remove(%q) passed", id)
		}
		if _, err := ParseID(string(id)); err == nil {
			t.Errorf("ParseID(%q) passed", id)
		}
	}
}

func TestNewIDsAreValidAndDiffer(t *testing.T) {
	seen := map[ID]bool{}
	for range 1000 {
		id := NewID()
		if _, err := ParseID(string(id)); err != nil || seen[id] {
			t.Fatalf("id %q: %v, seen before: %v", id, err, seen[id])
		}
		seen[id] = true
	}
}

func FuzzParseRecord(f *testing.F) {
	data, err := encode(full())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(data)
	f.Fuzz(func(t *testing.T, data []byte) {
		r, err := ParseRecord(data)
		if err != nil {
			return
		}
		again, err := json.Marshal(r)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := ParseRecord(again); err != nil {
			t.Errorf("accepted, but not after it was written again: %v", err)
		}
	})
}

func wantEntries(t *testing.T, s *Store, want int) {
	t.Helper()
	entries, err := os.ReadDir(s.dir)
	if err != nil {
		t.Fatal(err)
	}
	if len(entries) != want {
		t.Errorf("the store holds %d entries, want %d: %v", len(entries), want, entries)
	}
}
