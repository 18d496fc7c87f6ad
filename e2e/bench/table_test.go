package main

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestARatioIsThatOfOnePair(t *testing.T) {
	r := row{name: "x", goal: atMost(0.5), unit: inSeconds}
	res := samples{ours: []float64{1, 2, 6}, peer: []float64{4, 4, 8}}.of(r, nil)
	if *res.Ratio != 0.5 || !*res.Met || *res.Peer != 4 || *res.Ours != 2 || res.Spread.Ratio.Max != 0.75 {
		t.Errorf("%+v", res)
	}
	if s := newSpread([]float64{4, 1, 3, 2}); *s != (spread{2.5, 1, 4}) {
		t.Errorf("%+v", *s)
	}
}

func TestAGoalIsMetFromTheRightSide(t *testing.T) {
	for _, c := range []struct {
		goal  goal
		ratio float64
		met   bool
	}{{atMost(0.5), 0.4, true}, {atMost(0.5), 0.5, true}, {atMost(0.5), 0.6, false}, {atLeast(0.95), 0.9, false}, {atLeast(0.95), 0.95, true}, {atLeast(0.95), 1, true}} {
		res := samples{ours: []float64{c.ratio}, peer: []float64{1}}.of(row{goal: c.goal}, nil)
		if *res.Met != c.met {
			t.Errorf("%v of %+v: %v", c.ratio, c.goal, *res.Met)
		}
	}
	if res := (samples{ours: []float64{1}, peer: []float64{1}}).of(row{}, nil); res.Goal != nil || res.Met != nil {
		t.Errorf("without a goal: %+v", res)
	}
}

// constant is a quantity that is the same each time, or fails.
func constant(v float64, err error) quantity {
	return func(context.Context, *bench, int) (float64, error) { return v, err }
}

func TestAPeerThatCannotBeRunLeavesItsColumnEmptyAndSaysWhy(t *testing.T) {
	b := &bench{o: options{rounds: 3}}
	r := row{name: "x", goal: atMost(0.5), ours: constant(1, nil), peer: constant(0, cannot("no podman"))}
	s, err := r.measure(t.Context(), b)
	res := s.of(r, err)
	if err != nil || res.Why != "no podman" || *res.Ours != 1 || res.Rounds != 3 || res.Peer != nil || res.Ratio != nil || res.Met != nil || *res.Goal != 0.5 {
		t.Errorf("%+v, %v", res, err)
	}
	r.peer = constant(0, errors.New("broken"))
	if _, err := r.measure(t.Context(), b); err == nil {
		t.Error("a peer that broke passed")
	}
	r.ours = constant(0, cannot("no room"))
	if s, err := r.measure(t.Context(), b); !errors.As(err, new(cannot)) || s.of(r, err).Why != "no room" {
		t.Errorf("%+v, %v", s, err)
	}
}

func TestARowsOwnLimitBoundsItsRounds(t *testing.T) {
	r := row{ours: constant(1, nil), peer: limit(2), rounds: 1}
	for most, want := range map[int]int{0: 3, 1: 1, 5: 3} {
		r.rounds = most
		if s, err := r.measure(t.Context(), &bench{o: options{rounds: 3}}); err != nil || len(s.ours) != want {
			t.Errorf("%d at most: %d rounds, %v", most, len(s.ours), err)
		}
	}
}

func results() []result {
	return []result{
		samples{ours: []float64{0.2, 0.4}, peer: []float64{10, 10}}.of(row{name: "downtime", claim: "a, b", goal: atMost(1.0 / 25), unit: inSeconds}, nil),
		samples{ours: []float64{90}, peer: []float64{100}}.of(row{name: "rate", goal: atLeast(0.95), unit: perSecond}, nil),
		samples{}.of(row{name: "none", goal: atMost(1), unit: inBytes}, cannot("no room")),
	}
}

func TestTheTableHoldsEveryRow(t *testing.T) {
	var b strings.Builder
	printTable(&b, results(), []string{"a note"})
	got := strings.Join(strings.Fields(b.String()), " ")
	for _, want := range []string{
		"downtime 0.300 s (0.200 s–0.400 s) 10.000 s 0.030 (0.020–0.040) ≤ 1/25 yes",
		"rate 90/s 100/s 0.900 (0.900–0.900) ≥ 0.95 no",
		"none – – – ≤ 1 –",
		"downtime: a, b",
		"none is not complete: no room",
		"a note",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("%q lacks %q", got, want)
		}
	}
}

func TestJSONNamesEveryColumn(t *testing.T) {
	path := filepath.Join(t.TempDir(), "out.json")
	if err := writeJSON(path, results()); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var rows []map[string]any
	if err := json.Unmarshal(data, &rows); err != nil {
		t.Fatal(err)
	}
	for i, want := range []map[string]any{
		{"name": "downtime", "peer": 10.0, "ratio": 0.03, "goal": 0.04, "met": true, "unit": "s"},
		{"name": "rate", "ours": 90.0, "peer": 100.0, "ratio": 0.9, "goal": 0.95, "least": true, "met": false},
		{"name": "none", "ours": nil, "peer": nil, "ratio": nil, "goal": 1.0, "met": nil, "why": "no room"},
	} {
		for key, value := range want {
			if got, there := rows[i][key]; !there || got != value {
				t.Errorf("row %d: %s is %v, want %v", i, key, got, value)
			}
		}
	}
}
