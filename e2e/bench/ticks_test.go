package main

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/migrate-hpc/migrate/e2e/oracle"
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

func TestTheDowntimeIsTheLongestStepLessANormalOne(t *testing.T) {
	s, err := findDowntime(ticks(0, 10, 10, 510, 10, 10, 10), time.Unix(1, 15e6))
	if err != nil || s.length != 500*time.Millisecond {
		t.Errorf("%v, %v", s.length, err)
	}
	if !s.to.Equal(time.Unix(1, 530e6)) || !s.from.Equal(time.Unix(1, 20e6)) {
		t.Errorf("from %v to %v", s.from, s.to)
	}
}

func TestAStepBeforeTheMoveIsNotItsFault(t *testing.T) {
	s, err := findDowntime(ticks(0, 900, 10, 10, 10, 60, 10), time.Unix(1, 925e6))
	if err != nil || s.length != 50*time.Millisecond {
		t.Errorf("%v, %v", s.length, err)
	}
}

func TestAJobThatDoesNotTickAfterTheMoveIsAnError(t *testing.T) {
	if s, err := findDowntime(ticks(0, 10, 10), time.Unix(2, 0)); err == nil {
		t.Errorf("%+v", s)
	}
	if s, err := findDowntime("ready\ntick 0 1 1 1 1 0 h\ntick 2 2 2 2 1 0 h\n", time.Unix(0, 0)); err == nil {
		t.Errorf("a lost tick passed: %+v", s)
	}
}

func TestALoopsRateIsThatOfTheLinesBetweenTwoTimes(t *testing.T) {
	var lines []oracle.Loops
	for i := range int64(200) { // every 10 ms: 100 rounds each, 50 each from 1 s on
		lines = append(lines, oracle.Loops{Count: min(i, 100)*100 + max(i-100, 0)*50, Realtime: time.Duration(i * 1e7)})
	}
	if r := loopRate(lines, time.Unix(0, 0), time.Unix(1, 0)); r != 10000 {
		t.Errorf("%v/s", r)
	}
	if r := loopRate(lines, time.Unix(1, 0), time.Unix(2, 0)); r != 5000 {
		t.Errorf("%v/s", r)
	}
	if r := loopRate(lines, time.Unix(1, 0), time.Unix(1, 1e8)); r != 0 {
		t.Errorf("ten lines told a rate: %v/s", r)
	}
}
