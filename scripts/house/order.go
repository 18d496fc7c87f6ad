package main

import (
	"math/rand/v2"
	"slices"
)

// graph tells which of n files uses which: 1 for an arrow, 0 for none.
type graph [][]int

func newGraph(n int) graph {
	g := make(graph, n)
	for i := range g {
		g[i] = make([]int, n)
	}
	return g
}

func (g graph) add(from, to int) {
	if from != to {
		g[from][to] = 1
	}
}

// upward counts the arrows that run from a file to one above it.
func (g graph) upward(order []int) int {
	n := 0
	for i, from := range order {
		for _, to := range order[:i] {
			n += g[from][to]
		}
	}
	return n
}

// order looks for the order with the fewest upward arrows. Files that are in no circle have a
// place; among the others the very best order is hard to find (minimum feedback arc set), a good
// one is not: they move to where they fit best until none fits better elsewhere, from many
// beginnings. The same graph gives the same order.
func (g graph) order() []int {
	reach := g.closure()
	height := make([]int, len(g)) // how many files a file stands on, with itself
	for i := range g {
		reach[i][i] = 1
		for _, r := range reach[i] {
			height[i] += r
		}
	}
	random := rand.New(rand.NewPCG(1, 2))
	var best []int
	for range 200 {
		order := random.Perm(len(g))
		slices.SortStableFunc(order, func(a, b int) int { return height[b] - height[a] })
		for g.improve(order) {
		}
		if best == nil || g.upward(order) < g.upward(best) {
			best = order
		}
	}
	return best
}

// improve moves each file to its best place and tells whether that helped.
func (g graph) improve(order []int) bool {
	helped := false
	for file := range g {
		at := slices.Index(order, file)
		most, to := 0, at
		for i, gain := at-1, 0; i >= 0; i-- { // up, past one file after the other
			gain += g[file][order[i]] - g[order[i]][file]
			if gain > most {
				most, to = gain, i
			}
		}
		for i, gain := at+1, 0; i < len(order); i++ {
			gain += g[order[i]][file] - g[file][order[i]]
			if gain > most {
				most, to = gain, i
			}
		}
		copy(order, slices.Insert(slices.Delete(slices.Clone(order), at, at+1), to, file))
		helped = helped || most > 0
	}
	return helped
}

// closure tells which file uses which, be it by way of others.
func (g graph) closure() graph {
	reach := newGraph(len(g))
	for i := range g {
		copy(reach[i], g[i])
	}
	for via := range reach {
		for i := range reach {
			for j := range reach {
				reach[i][j] |= reach[i][via] & reach[via][j]
			}
		}
	}
	return reach
}

// inCircles counts the files that use themselves by way of others.
func (g graph) inCircles() int {
	n := 0
	for i, row := range g.closure() {
		n += row[i]
	}
	return n
}
