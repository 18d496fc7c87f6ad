// House measures the tree and holds it to the rules of CONTRIBUTING.md: it prints a line per
// measure, and fails if a rule is broken.
//
//	go run ./scripts/house             # from the root of the repository
//	go run ./scripts/house job store   # the order of these packages' files, and its upward arrows
//
// Rules about sizes are for all Go code but tests: a table of cases is as long as there are cases,
// and a test double has the methods of what it stands for. Only the length of a file is held in
// tests, too. Arrows between files are counted in what becomes part of the program.
package main

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
)

// measure is what a rule counts.
type measure string

const (
	fileLines      measure = "lines of a file"
	functionLines  measure = "lines of a function"
	parameters     measure = "parameters of a function"
	methods        measure = "methods of a type"
	upwardImports  measure = "imports that do not go downwards"
	upwardArrows   measure = "upward arrows between files"
	filesInCircles measure = "files in a circle, in agent's rooms"
	bannedCalls    measure = "banned calls"
	rawKeys        measure = "keys of the log that are not in logkey"
)

// rules have the most that is well.
var rules = []struct {
	measure measure
	most    int
}{
	{fileLines, 400}, {functionLines, 60}, {parameters, 6}, {methods, 30},
	{upwardImports, 0}, {upwardArrows, 9}, {filesInCircles, 0}, {bannedCalls, 0}, {rawKeys, 0},
}

// subject is what was measured: a file, a function, a type or a package.
type subject struct {
	measure measure
	name    string
}

type measured map[subject]int

func main() {
	do := run
	if len(os.Args) > 1 {
		do = func(w io.Writer) error { return draw(w, os.Args[1:]) }
	}
	if err := do(os.Stdout); err != nil {
		fmt.Fprintf(os.Stderr, "house: %v\n", err)
		os.Exit(1)
	}
}

func run(w io.Writer) error {
	files, err := parseAll(".")
	if err != nil {
		return err
	}
	layers, err := readLayers("arrows_test.go")
	if err != nil {
		return err
	}
	packages, err := load(module + "...")
	if err != nil {
		return err
	}
	found := measured{}
	for _, f := range files {
		sizes(found, f)
		calls(found, f)
		keys(found, f)
	}
	for _, p := range packages {
		imports(found, p, layers)
		arrows(found, p)
	}
	return judge(w, found)
}

// draw prints the best order of the files of packages, each with the files above that it uses.
func draw(w io.Writer, names []string) error {
	for i := range names {
		names[i] = module + names[i]
	}
	packages, err := load(names...)
	if err != nil {
		return err
	}
	for _, p := range packages {
		g := references(p)
		order := g.order()
		fmt.Fprintf(w, "%s: %d upward arrows\n", p.PkgPath, g.upward(order))
		for i, from := range order {
			line := filepath.Base(p.CompiledGoFiles[from])
			for _, to := range order[:i] {
				if g[from][to] == 1 {
					line += " ^" + filepath.Base(p.CompiledGoFiles[to])
				}
			}
			fmt.Fprintln(w, "  "+line)
		}
	}
	return nil
}

// judge prints a line per measure and returns what is wrong.
func judge(w io.Writer, found measured) error {
	var wrong []error
	for _, r := range rules {
		over, largest, where := 0, 0, ""
		for _, s := range sorted(found) {
			if s.measure != r.measure {
				continue
			}
			n := found[s]
			if n > largest {
				largest, where = n, ", "+s.name
			}
			if n > r.most {
				over++
				wrong = append(wrong, fmt.Errorf("%s: %s has %d, at most %d", s.measure, s.name, n, r.most))
			}
		}
		fmt.Fprintf(w, "%-38s at most %3d, over it %2d, largest %d%s\n", r.measure, r.most, over, largest, where)
	}
	return errors.Join(wrong...)
}

func sorted(m measured) []subject {
	return slices.SortedFunc(maps.Keys(m), func(a, b subject) int {
		return cmp.Or(cmp.Compare(a.measure, b.measure), cmp.Compare(a.name, b.name))
	})
}
