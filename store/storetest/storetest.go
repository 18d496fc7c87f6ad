package storetest

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/migrate-hpc/migrate/osthread"
	"github.com/migrate-hpc/migrate/store"
	"github.com/migrate-hpc/migrate/testenv"
	"github.com/migrate-hpc/migrate/transport/pki"
)

// Form is a form of store that is to be tested.
type Form struct {
	Store store.Store
	User  osthread.User
	// Name is a name that nothing has and that the user may give.
	Name func(t *testing.T) string
	// NoName is one that the form cannot have.
	NoName string
	// Change changes a byte of the first lane of a sealed checkpoint.
	Change func(t *testing.T, name string)
}

// scene is one test of a form.
type scene struct {
	Form
	name string // of the checkpoint
	id   *pki.Identity
}

// TestStore holds a form to what the interfaces of package store promise.
func TestStore(t *testing.T, f Form) {
	for name, test := range map[string]func(*testing.T, scene){
		"what goes in comes out":                      comesOut,
		"a name appears when its checkpoint is whole": appearsWhole,
		"what is given up leaves nothing":             leavesNothing,
		"an earlier agent's is taken back":            takenBack,
		"nothing is replaced":                         replacesNothing,
		"of two with one name one gets it":            oneGetsTheName,
		"without a signature there is nothing":        unsigned,
		"another's signature is not taken":            signedByAnother,
		"a change is found out":                       changed,
		"what waits can be given up":                  givenUp,
		"a name that cannot be is refused":            refusesNames,
		"claims are in order and can be released":     claimsInOrder,
		"an older claim does not count":               olderClaim,
		"of many restores at most one claims":         oneClaims,
	} {
		t.Run(strings.ReplaceAll(name, " ", "-"), func(t *testing.T) {
			test(t, scene{f, f.Name(t), testenv.NewAuthority(t).Node(t, "here")})
		})
	}
}

// text of a lane; that of the first one is longer than one piece.
func text(lane int) string {
	if lane == 0 {
		return strings.Repeat("of the first lane. ", store.PieceSize/19+100)
	}
	return strings.Repeat("lane", lane)
}

func manifest() store.Manifest {
	return store.Manifest{Job: []byte(`{"id":"j1"}`), Node: "here", Kernel: "6.12", CRIU: "4.2", Epoch: 3, Clock: store.Clock{Mono: 1, Boot: 2, Real: 3}}
}

// draft is one whose lanes are full.
func (s scene) draft(t *testing.T, move string) store.Draft {
	t.Helper()
	d, err := s.Store.Create(s.name, move, s.User)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(d.Discard)
	for i, lane := range d.Lanes() {
		if _, err := io.WriteString(lane, text(i)); err != nil {
			t.Fatal(err)
		}
	}
	return d
}

func (s scene) sealed(t *testing.T) store.Draft {
	t.Helper()
	d := s.draft(t, "m1")
	d.Shut()
	if err := d.Seal(manifest(), s.id.Sign); err != nil {
		t.Fatal(err)
	}
	return d
}

func (s scene) open(t *testing.T) store.Checkpoint {
	t.Helper()
	c, err := s.Store.Open(s.name, s.User)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	return c
}

// isGone wants that the name leads to no checkpoint, and is free.
func (s scene) isGone(t *testing.T) {
	t.Helper()
	if c, err := s.Store.Open(s.name, s.User); err == nil {
		t.Errorf("there is one: %v", c.Close())
	}
	d, err := s.Store.Create(s.name, "m9", s.User)
	if err != nil {
		t.Errorf("the name is taken: %v", err)
		return
	}
	d.Discard()
}

// isWhole wants that the name leads to what was sealed.
func (s scene) isWhole(t *testing.T) {
	t.Helper()
	c := s.open(t)
	m, err := c.Manifest(s.id.Verify)
	if err != nil {
		t.Fatal(err)
	}
	var job bytes.Buffer
	if want := manifest(); json.Compact(&job, m.Job) != nil || job.String() != string(want.Job) || m.Node != want.Node || m.Epoch != want.Epoch || m.Clock != want.Clock || !m.Recorded() {
		t.Errorf("the manifest says %+v", m)
	}
	lanes, err := c.Lanes()
	if err != nil {
		t.Fatal(err)
	}
	defer lanes.Wait()
	if len(lanes.Readers) != len(m.Files) || len(m.Files) == 0 {
		t.Errorf("%d lanes, %d are listed", len(lanes.Readers), len(m.Files))
	}
	for i, r := range lanes.Readers {
		if got, err := io.ReadAll(r); err != nil || string(got) != text(i) {
			t.Errorf("lane %d has %d bytes (%v)", i, len(got), err)
		}
	}
}

func comesOut(t *testing.T, s scene) {
	d := s.sealed(t)
	var want int64
	for i := range d.Lanes() {
		want += int64(len(text(i)))
	}
	if got := d.Written(); got != want {
		t.Errorf("%d bytes were written, %d are told", want, got)
	}
	d.Discard()
	s.isWhole(t)
}

func appearsWhole(t *testing.T, s scene) {
	d := s.draft(t, "m1")
	if c, err := s.Store.Open(s.name, s.User); err == nil {
		t.Errorf("half of one has the name: %v", c.Close())
	}
	if err := d.Seal(manifest(), s.id.Sign); err != nil {
		t.Fatal(err)
	}
	s.isWhole(t)
}

func leavesNothing(t *testing.T, s scene) {
	for _, end := range []func(store.Draft) error{
		func(d store.Draft) error { d.Discard(); return nil },
		store.Draft.Remove,
		func(d store.Draft) error { return errors.Join(d.Remove(), d.Remove()) },
		func(d store.Draft) error { d.Discard(); return d.Remove() },
		func(d store.Draft) error { return errors.Join(d.Seal(manifest(), s.id.Sign), d.Remove(), d.Remove()) },
	} {
		d := s.draft(t, "m1")
		d.Shut()
		if err := end(d); err != nil {
			t.Error(err)
		}
		s.isGone(t)
	}
}

func takenBack(t *testing.T, s scene) {
	for _, seal := range []bool{false, true} {
		d := s.draft(t, "m1")
		ref, err := d.Ref()
		if err != nil || ref.String() != s.name {
			t.Fatalf("it is called %s, %v", ref, err)
		}
		d.Shut()
		if seal {
			if err := d.Seal(manifest(), s.id.Sign); err != nil {
				t.Fatal(err)
			}
		}
		d.GiveUp() // its agent ends
		for range 2 {
			if err := s.Store.Remove(ref, "m1", s.User); err != nil {
				t.Error(err)
			}
		}
		s.isGone(t)
	}
}
