package main

import (
	"errors"
	"strings"
	"testing"
	"time"
)

func TestARowIsChosenByItsName(t *testing.T) {
	seen := map[string]bool{}
	for _, name := range rowNames() {
		if rows := selected(name); len(rows) != 1 || rows[0].name != name || seen[name] {
			t.Errorf("%s selects %d rows", name, len(rows))
		}
		seen[name] = true
	}
	if n := len(selected("")); n != len(rows) {
		t.Errorf("no name selects %d rows of %d", n, len(rows))
	}
}

func TestAnUnknownRowIsAUsageErrorThatListsTheRows(t *testing.T) {
	t.Setenv("BENCH", "downtime")
	_, err := optionsFromEnv()
	if !errors.As(err, new(usageError)) {
		t.Fatalf("%T %v", err, err)
	}
	for _, name := range rowNames() {
		if !strings.Contains(err.Error(), name) {
			t.Errorf("%q lacks %s", err, name)
		}
	}
}

func TestNumbersFromTheEnvironmentAreBounded(t *testing.T) {
	for _, text := range []string{"0", "101", "-1", "x"} {
		t.Setenv("BENCH_ROUNDS", text)
		if _, err := optionsFromEnv(); !errors.As(err, new(usageError)) {
			t.Errorf("BENCH_ROUNDS=%s: %v", text, err)
		}
	}
}

// measured is a bench that has made these runs, and can make no others.
func measured(mib int64, downtimes map[run]time.Duration) *bench {
	b := &bench{o: options{rounds: 1, mib: mib}, done: map[run][]outcome{}}
	for r, d := range downtimes {
		b.done[b.sized(r)] = []outcome{{moved: moved{downtime: d}}}
	}
	return b
}

func TestTheGrowthIsPerGiB(t *testing.T) {
	b := measured(0, map[run]time.Duration{small: 250 * time.Millisecond, large: 1025 * time.Millisecond})
	if v, err := growth(small, large)(t.Context(), b, 0); err != nil || v < 0.0999 || v > 0.1001 {
		t.Errorf("%v s/GiB, %v", v, err)
	}
	b = measured(16, map[run]time.Duration{small: time.Second})
	if _, err := growth(small, large)(t.Context(), b, 0); !errors.As(err, new(cannot)) {
		t.Errorf("sizes that are the same: %v", err)
	}
}

func TestARoundIsRunOnceForAllRows(t *testing.T) {
	b := measured(0, map[run]time.Duration{medium: time.Second})
	for range 2 {
		if v, err := downtimeOf(medium)(t.Context(), b, 0); err != nil || v != 1 {
			t.Errorf("%v, %v", v, err)
		}
	}
	b.done[large] = []outcome{{err: cannot("no room")}}
	if _, err := downtimeOf(large)(t.Context(), b, 0); !errors.As(err, new(cannot)) {
		t.Errorf("a failed run was forgotten: %v", err)
	}
}

func TestAJobThatDoesNotFitIsRefusedWithTheReason(t *testing.T) {
	dir := t.TempDir()
	if err := enoughRoom(load{mib: 1}, 1, 1, dir); err != nil {
		t.Error(err)
	}
	for what, err := range map[string]error{
		"memory":  enoughRoom(load{mib: 1 << 30}, 1, 0, dir),
		"room in": enoughRoom(load{mib: 1 << 30}, 0, 1, dir),
	} {
		if !errors.As(err, new(cannot)) || !strings.Contains(err.Error(), what) {
			t.Errorf("a job of 1 PiB without %s: %v", what, err)
		}
	}
}
