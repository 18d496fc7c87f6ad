package main

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// ticks writes a job's output whose wall clock makes the given steps, in ms.
func ticks(steps ...int64) string {
	var b strings.Builder
	at := int64(time.Second)
	for i, s := range steps {
		at += s * 1e6
		fmt.Fprintf(&b, "tick %d %d %d %d 1 0 host\n", i, at, at, at)
	}
	return "ready\n" + b.String()
}

func TestTheStandStillIsTheLongestStepLessANormalOne(t *testing.T) {
	s, err := findStandStill(ticks(0, 10, 10, 510, 10, 10, 10), time.Unix(1, 15e6))
	if err != nil || s.length != 500*time.Millisecond {
		t.Errorf("%v, %v", s.length, err)
	}
	if !s.to.Equal(time.Unix(1, 530e6)) || !s.from.Equal(time.Unix(1, 20e6)) {
		t.Errorf("from %v to %v", s.from, s.to)
	}
}

func TestAStepBeforeTheMoveIsNotItsFault(t *testing.T) {
	s, err := findStandStill(ticks(0, 900, 10, 10, 10, 60, 10), time.Unix(1, 925e6))
	if err != nil || s.length != 50*time.Millisecond {
		t.Errorf("%v, %v", s.length, err)
	}
}

func TestAJobThatDoesNotTickAfterTheMoveIsAnError(t *testing.T) {
	if s, err := findStandStill(ticks(0, 10, 10), time.Unix(2, 0)); err == nil {
		t.Errorf("%+v", s)
	}
	if s, err := findStandStill("ready\ntick 0 1 1 1 1 0 h\ntick 2 2 2 2 1 0 h\n", time.Unix(0, 0)); err == nil {
		t.Errorf("a lost tick passed: %+v", s)
	}
}

func TestARatioIsThatOfOnePair(t *testing.T) {
	r := row{name: "x", goal: 0.5, unit: inSeconds}
	res := samples{ours: []float64{1, 2, 6}, peer: []float64{4, 4, 8}}.of(r)
	if *res.Ratio != 0.5 || !*res.Met || *res.Peer != 4 || res.Ours != 2 || res.Spread.Ratio.Max != 0.75 {
		t.Errorf("%+v", res)
	}
	if res := (samples{ours: []float64{1}}).of(r); res.Ratio != nil || res.Met != nil || *res.Goal != 0.5 {
		t.Errorf("without a peer: %+v", res)
	}
	if s := newSpread([]float64{4, 1, 3, 2}); *s != (spread{2.5, 1, 4}) {
		t.Errorf("%+v", *s)
	}
}
