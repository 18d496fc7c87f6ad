package storetest

import (
	"errors"
	"io"
	"testing"

	"github.com/migrate-hpc/migrate/store"
	"github.com/migrate-hpc/migrate/testenv"
)

func replacesNothing(t *testing.T, s scene) {
	s.sealed(t).Discard()
	if d, err := s.Store.Create(s.name, "m2", s.User); err == nil {
		d.Discard()
		t.Error("another was begun under its name")
	}
	s.isWhole(t)
}

func oneGetsTheName(t *testing.T, s scene) {
	first, second := s.draft(t, "m1"), s.draft(t, "m2")
	ref, err := second.Ref()
	if err = errors.Join(err, first.Seal(manifest(), s.id.Sign)); err != nil {
		t.Fatal(err)
	}
	if err := second.Seal(manifest(), s.id.Sign); err == nil {
		t.Error("both got it")
	}
	if err := errors.Join(second.Remove(), s.Store.Remove(ref, "m2", s.User)); err != nil {
		t.Error(err)
	}
	s.isWhole(t)
}

func unsigned(t *testing.T, s scene) {
	noKey := errors.New("no key")
	d := s.draft(t, "m1")
	if err := d.Seal(manifest(), func([]byte) (sig, cert []byte, err error) { return nil, nil, noKey }); !errors.Is(err, noKey) {
		t.Errorf("got %v", err)
	}
	d.Discard()
	s.isGone(t)
}

func signedByAnother(t *testing.T, s scene) {
	m := manifest()
	m.Node = "there"
	d := s.draft(t, "m1")
	if err := d.Seal(m, s.id.Sign); err != nil {
		t.Fatal(err)
	}
	if m, err := s.open(t).Manifest(s.id.Verify); !errors.Is(err, store.ErrSignature) {
		t.Errorf("another node than the one that it names has signed it: %+v, %v", m, err)
	}
	if err := d.Remove(); err != nil {
		t.Fatal(err)
	}
	s.sealed(t).Discard()
	if m, err := s.open(t).Manifest(testenv.NewAuthority(t).Node(t, "here").Verify); !errors.Is(err, store.ErrSignature) {
		t.Errorf("another cluster takes it: %+v, %v", m, err)
	}
}

func changed(t *testing.T, s scene) {
	s.sealed(t).Discard()
	s.Change(t, s.name)
	c := s.open(t)
	if _, err := c.Manifest(s.id.Verify); err != nil {
		t.Fatal(err)
	}
	lanes, err := c.Lanes()
	if err != nil {
		t.Fatal(err)
	}
	defer lanes.Wait()
	if got, err := io.ReadAll(lanes.Readers[0]); !errors.Is(err, store.ErrDigest) || len(got) > 0 {
		t.Errorf("%d bytes came out, %v", len(got), err)
	}
}

func givenUp(t *testing.T, s scene) {
	d := s.draft(t, "m1")
	d.GiveUp()
	if err := d.Seal(manifest(), s.id.Sign); err == nil {
		t.Error("it was sealed")
	}
	d.Discard()
	s.isGone(t)
	s.sealed(t).Discard()
	c := s.open(t)
	if _, err := c.Manifest(s.id.Verify); err != nil {
		t.Fatal(err)
	}
	lanes, err := c.Lanes()
	if err != nil {
		t.Fatal(err)
	}
	lanes.GiveUp()
	lanes.Wait()
	if _, err := io.ReadAll(lanes.Readers[0]); err == nil {
		t.Error("all was read")
	}
}

func refusesNames(t *testing.T, s scene) {
	if _, err := s.Store.Create(s.NoName, "m1", s.User); !errors.Is(err, store.ErrName) {
		t.Errorf("create: %v", err)
	}
	if _, err := s.Store.Open(s.NoName, s.User); !errors.Is(err, store.ErrName) {
		t.Errorf("open: %v", err)
	}
}
