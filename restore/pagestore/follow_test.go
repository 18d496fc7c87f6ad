package pagestore

import (
	"errors"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/migrate-hpc/migrate/restore/pageset"
	"github.com/migrate-hpc/migrate/stream"
)

// following is a follower that looks when it is told to.
func following(t *testing.T, dir string) *Follower {
	t.Helper()
	f, err := newFollower(dir)
	if err != nil {
		t.Fatal(err)
	}
	close(f.done)
	t.Cleanup(f.Close)
	return f
}

func mustLook(t *testing.T, f *Follower) {
	t.Helper()
	if err := f.readNew(); err != nil {
		t.Fatal(err)
	}
}

// same says whether two stores hold the same, and give back the same memory.
func same(a, b *Store) bool {
	return maps.EqualFunc(a.index, b.index, func(x, y *pageset.Set) bool { return slices.Equal(x.All(), y.All()) }) &&
		a.blocks.next == b.blocks.next && slices.Equal(a.blocks.live, b.blocks.live)
}

func TestWhatWasFollowedIsNotReadAgainAndEndsAsTheStoreIs(t *testing.T) {
	s := mustCreate(t)
	f := following(t, s.Dir)
	mustLook(t, f) // nothing but the header
	for round := range uint64(5) {
		mustPut(t, s, 5, round*16*stream.PageSize, fill(20, 1)) // over the end of the one before
		if err := s.PutZero(5, (round*16+3)*stream.PageSize, 2); err != nil {
			t.Fatal(err)
		}
		if err := s.PutBatch([]stream.Run{{VPID: 5, Addr: round * 32 * stream.PageSize, Pages: 4, Drop: true}}); err != nil {
			t.Fatal(err)
		}
		if round == 4 {
			break // the rest is read in the end
		}
		mustLook(t, f)
		if info, err := s.log.Stat(); err != nil || info.Size() != f.reader.at {
			t.Fatalf("followed up to %d bytes of the log, which has %v (%v)", f.reader.at, info.Size(), err)
		}
	}
	seen := f.reader.index[5]
	got, err := f.Open(s.Dir)
	if err != nil {
		t.Fatal(err)
	}
	defer got.Close()
	if got.index[5] != seen {
		t.Error("what was followed is not used")
	}
	if !same(got, reopen(t, s)) {
		t.Error("the store is not what it is when its log is read at once")
	}
}

func TestAFollowerReadsAlongWhileOthersPut(t *testing.T) {
	s := mustCreate(t)
	f, err := Follow(s.Dir)
	if err != nil {
		t.Fatal(err)
	}
	until := time.Now().Add(4 * followEvery) // so that it looks in the middle of it
	for at := uint64(0); time.Now().Before(until); at += 16 * stream.PageSize {
		mustPut(t, s, 5, at, fill(20, 1))
	}
	got, err := f.Open(s.Dir)
	if err != nil {
		t.Fatal(err)
	}
	defer got.Close()
	if !same(got, reopen(t, s)) {
		t.Error("the store is not what it is when its log is read at once")
	}
}

func TestAFollowerWaitsForTheRestOfARecord(t *testing.T) {
	s := mustCreate(t)
	f := following(t, s.Dir)
	mustPut(t, s, 5, 0, fill(4, 1))
	record := appendRecord(nil, recordZero, 5, pageset.Span{Start: 8 * stream.PageSize, End: 9 * stream.PageSize, Off: pageset.ZeroOff})
	if _, err := s.log.Write(record[:recordSize/2]); err != nil {
		t.Fatal(err)
	}
	mustLook(t, f)
	if _, err := s.log.Write(record[recordSize/2:]); err != nil {
		t.Fatal(err)
	}
	mustLook(t, f)
	if want := []pageset.Span{{Start: 0, End: 4 * stream.PageSize}, {Start: 8 * stream.PageSize, End: 9 * stream.PageSize, Off: pageset.ZeroOff}}; !slices.Equal(f.reader.index[5].All(), want) {
		t.Fatalf("index %v, want %v", f.reader.index[5].All(), want)
	}
}

func TestAFollowerForgetsAStoreThatIsRemoved(t *testing.T) {
	s := mustCreate(t)
	f := following(t, s.Dir)
	mustPut(t, s, 5, 0, fill(4, 1))
	mustLook(t, f)
	if err := s.Remove(); err != nil {
		t.Fatal(err)
	}
	if err := f.readNew(); !errors.Is(err, errStoreRemoved) || f.reader.index != nil {
		t.Fatalf("look: %v, index %v", err, f.reader.index)
	}
	if _, err := f.Open(s.Dir); !errors.Is(err, os.ErrNotExist) {
		t.Fatalf("Open: %v", err)
	}
}

func TestAStoreInThePlaceOfTheOneThatWasFollowedIsReadFromItsStart(t *testing.T) {
	s := mustCreate(t)
	f := following(t, s.Dir)
	mustPut(t, s, 5, 0, fill(4, 1))
	mustLook(t, f)
	if err := s.Remove(); err != nil {
		t.Fatal(err)
	}
	other, err := Create(s.Dir)
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	mustPut(t, other, 6, 0, fill(9, 1))
	got, err := f.Open(s.Dir)
	if err != nil {
		t.Fatal(err)
	}
	defer got.Close()
	if !same(got, other) {
		t.Error("the store has what another had")
	}
}

func TestWhatIsDamagedIsRefusedThoughItWasFollowed(t *testing.T) {
	s := mustCreate(t)
	f := following(t, s.Dir)
	mustPut(t, s, 5, 0, fill(4, 1))
	name := filepath.Join(s.Dir, logName)
	log, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	log[len(log)-20] ^= 4
	if err := os.WriteFile(name, log, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := f.readNew(); !errors.Is(err, ErrDamaged) {
		t.Fatalf("look: %v, want ErrDamaged", err)
	}
	if _, err := f.Open(s.Dir); !errors.Is(err, ErrDamaged) {
		t.Fatalf("Open: %v, want ErrDamaged", err)
	}
}

func TestNobodyHasToFollow(t *testing.T) {
	s := mustCreate(t)
	mustPut(t, s, 5, 0, fill(4, 1))
	var f *Follower
	got, err := f.Open(s.Dir)
	if err != nil {
		t.Fatal(err)
	}
	f.Close()
	defer got.Close()
	if !same(got, s) {
		t.Error("the store is not what it was")
	}
}
