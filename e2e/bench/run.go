package main

import (
	"fmt"
	"strings"
	"time"
)

// way is how a job gets from one node to the other.
type way string

// The ways.
const (
	ours   way = "migrate"
	podman way = "podman"
	pipe   way = "pipe"
)

// load is the job: an oracle that rewrites 1 % of its pages per second.
type load struct {
	mib    int64
	fields bool // memory as of a simulation; else half random, a quarter text, a quarter zero
	spin   bool // a thread computes all the time
}

// run is one kind of move, done once per round.
type run struct {
	way     way
	job     load
	flags   string // of migrate move
	watched bool   // memory of both nodes is looked at all the time, which costs a little
}

func (r run) String() string {
	words := []string{string(r.way), r.flags, fmt.Sprintf("%d MiB", r.job.mib)}
	for word, has := range map[string]bool{"of numbers": r.job.fields, "computing": r.job.spin, "weighed": r.watched} {
		if has {
			words = append(words, word) // a run has one of them at most
		}
	}
	return strings.Join(strings.Fields(strings.Join(words, " ")), " ")
}

// moved is what one move gave.
type moved struct {
	downtime time.Duration // by the job's own ticks
	total    time.Duration // until the job runs and all of its memory is in place
	phases   []phase
	rss      int64 // of the job before, bytes
	sent     int64 // bytes on the wire
	source   int64 // peak of the agent, if watched
	target   sum   // the moment when its total was largest, if watched
	loopWarm float64
	// loopBefore and loopWarm are rates per second, 0 if there were too few ticks.
	loopBefore float64
}

// phase is a part of a move, by the clock of who did it.
type phase struct {
	name string
	took time.Duration
}

// cannot says why something is not measured. It is no failure of what is measured.
type cannot string

func (c cannot) Error() string { return string(c) }

// outcome of a run in one round.
type outcome struct {
	moved
	err error
}
