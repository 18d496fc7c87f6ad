package main

import (
	"encoding/json"
	"fmt"
	"io"
	"math"
	"os"
	"slices"
	"strconv"
	"text/tabwriter"
)

// unit of the samples of a row.
type unit string

const (
	inSeconds       unit = "s"
	inSecondsPerGiB unit = "s/GiB"
	inBytes         unit = "B"
	perSecond       unit = "1/s"
)

func (u unit) show(v float64) string {
	switch u {
	case inBytes:
		return fmt.Sprintf("%.0f MiB", v/(1<<20))
	case perSecond:
		return fmt.Sprintf("%.0f/s", v)
	}
	return fmt.Sprintf("%.3f %s", v, u)
}

// samples of a row, one per round. Without a peer noPeer says why there is none.
type samples struct {
	ours, peer []float64
	noPeer     string
}

// spread is what several rounds gave.
type spread struct {
	Median float64 `json:"median"`
	Min    float64 `json:"min"`
	Max    float64 `json:"max"`
}

// newSpread is nil for no values.
func newSpread(values []float64) *spread {
	if len(values) == 0 {
		return nil
	}
	v := slices.Sorted(slices.Values(values))
	mid := v[len(v)/2]
	if len(v)%2 == 0 {
		mid = (mid + v[len(v)/2-1]) / 2
	}
	return &spread{mid, v[0], v[len(v)-1]}
}

// result is one row, measured. Sizes are bytes, times seconds; ratio is ours / peer of
// each pair. What could not be measured is null.
type result struct {
	Name   string   `json:"name"`
	Ours   *float64 `json:"ours"` // median
	Peer   *float64 `json:"peer"`
	Ratio  *float64 `json:"ratio"`
	Goal   *float64 `json:"goal"`            // the ratio to reach
	Least  bool     `json:"least,omitempty"` // it is to be that at least; else at most
	Met    *bool    `json:"met"`
	Unit   unit     `json:"unit"`
	Rounds int      `json:"rounds"`
	Why    string   `json:"why,omitempty"` // something is missing
	Spread struct {
		Ours  *spread `json:"ours"`
		Peer  *spread `json:"peer"`
		Ratio *spread `json:"ratio"`
	} `json:"spread"`
	claim string
}

// of makes a row's line. An error says why samples are missing.
func (s samples) of(r row, err error) result {
	res := result{Name: r.name, Least: r.goal.least, Unit: r.unit, Rounds: len(s.ours), Why: s.noPeer, claim: r.claim}
	if err != nil {
		res.Why = err.Error()
	}
	var ratios []float64
	for i, p := range s.peer {
		ratios = append(ratios, s.ours[i]/p)
	}
	res.Spread.Ours, res.Spread.Peer, res.Spread.Ratio = newSpread(s.ours), newSpread(s.peer), newSpread(ratios)
	res.Ours, res.Peer, res.Ratio = res.Spread.Ours.median(), res.Spread.Peer.median(), res.Spread.Ratio.median()
	if r.goal == (goal{}) {
		return res
	}
	res.Goal = &r.goal.ratio
	if res.Ratio != nil {
		met := r.goal.metBy(*res.Ratio)
		res.Met = &met
	}
	return res
}

func (s *spread) median() *float64 {
	if s == nil {
		return nil
	}
	return &s.Median
}

func printTable(w io.Writer, results []result, notes []string) {
	fmt.Fprintln(w)
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "row\tours (min–max)\tpeer (min–max)\tratio (min–max)\tgoal\tmet")
	for _, r := range results {
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\n", r.Name, r.cell(r.Spread.Ours), r.cell(r.Spread.Peer), ratioCell(r.Spread.Ratio), r.goalCell(), r.metCell())
	}
	_ = t.Flush() // to a terminal or a pipe whose reader may have left
	fmt.Fprintln(w, "\nours and peer are")
	for _, r := range results {
		fmt.Fprintf(w, "  %s: %s\n", r.Name, r.claim)
	}
	for _, r := range results {
		if r.Why != "" {
			fmt.Fprintf(w, "%s is not complete: %s\n", r.Name, r.Why)
		}
	}
	for _, n := range notes {
		fmt.Fprintln(w, n)
	}
}

func (r result) cell(s *spread) string {
	if s == nil {
		return "–"
	}
	if s.Min == s.Max {
		return r.Unit.show(s.Median)
	}
	return fmt.Sprintf("%s (%s–%s)", r.Unit.show(s.Median), r.Unit.show(s.Min), r.Unit.show(s.Max))
}

func ratioCell(s *spread) string {
	if s == nil {
		return "–"
	}
	return fmt.Sprintf("%.3f (%.3f–%.3f)", s.Median, s.Min, s.Max)
}

func (r result) goalCell() string {
	if r.Goal == nil {
		return "–"
	}
	sign := "≤"
	if r.Least {
		sign = "≥"
	}
	if n := math.Round(1 / *r.Goal); n > 1 && math.Abs(n**r.Goal-1) < 1e-9 {
		return fmt.Sprintf("%s 1/%.0f", sign, n)
	}
	return sign + " " + strconv.FormatFloat(*r.Goal, 'g', 3, 64)
}

func (r result) metCell() string {
	switch {
	case r.Met == nil:
		return "–"
	case *r.Met:
		return "yes"
	}
	return "no"
}

func writeJSON(path string, results []result) error {
	data, err := json.MarshalIndent(results, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(path, append(data, '\n'), 0o644)
}
