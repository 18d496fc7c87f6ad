package criu

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
)

func program(t testing.TB, name string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestFindPrefersWhatWasNamedAndNeverReplacesIt(t *testing.T) {
	explicit, env, private, onPath := program(t, "a"), program(t, "b"), program(t, "c"), program(t, "criu")
	t.Setenv("PATH", filepath.Dir(onPath))
	none := filepath.Join(t.TempDir(), "none")
	for _, c := range []struct{ explicit, env, private, want string }{
		{explicit, env, private, explicit},
		{"", env, private, env},
		{"", "", private, private},
		{"", "", none, onPath},
		{none, env, private, ""},
		{"", none, private, ""},
	} {
		got, err := find(c.explicit, c.env, c.private)
		if got != c.want || (c.want == "") != errors.Is(err, ErrNotFound) {
			t.Errorf("%+v: got %q, %v", c, got, err)
		}
	}
	t.Setenv("PATH", t.TempDir())
	if _, err := find("", "", none); !errors.Is(err, ErrNotFound) {
		t.Errorf("nowhere: got %v", err)
	}
}

func TestTheFloorFollowsTheKernel(t *testing.T) {
	for release, want := range map[string]Version{
		"5.14.0-427.el9.x86_64": {4, 1, 0}, "6.12.57+deb13-amd64": {4, 1, 0}, "6.15.9": {4, 1, 0},
		"6.16.0-rc1": {4, 2, 0}, "6.18.44": {4, 2, 0}, "7.0.0": {4, 2, 0}, "strange": {4, 1, 0},
	} {
		if got, reason := Floor(release); got != want || reason == "" {
			t.Errorf("%s: got %v, %q", release, got, reason)
		}
	}
}

func TestVersionsCompareByNumber(t *testing.T) {
	floor := Version{4, 2, 0}
	for v, want := range map[Version]bool{
		{4, 2, 0}: true, {4, 2, 1}: true, {4, 10, 0}: true, {5, 0, 0}: true, {4, 1, 9}: false, {3, 19, 0}: false,
	} {
		if v.AtLeast(floor) != want {
			t.Errorf("%v at least %v: want %v", v, floor, want)
		}
	}
	if (Version{4, 2, 1}).String() != "4.2.1" || floor.String() != "4.2" {
		t.Errorf("got %v, %v", Version{4, 2, 1}, floor)
	}
}
