package main

import (
	"fmt"
	"go/parser"
	"go/token"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/tools/go/packages"
)

// parsed is a file of the tree with that path and text.
func parsed(t *testing.T, path, text string) source {
	t.Helper()
	set := token.NewFileSet()
	f, err := parser.ParseFile(set, path, text, parser.ParseComments|parser.SkipObjectResolution)
	if err != nil {
		t.Fatal(err)
	}
	return source{f, set, path}
}

func TestSizesOfWhatAFileDeclares(t *testing.T) {
	const text = `package p

type list[T any] struct{}

func (l *list[T]) add(a, b T, more ...T) {
}

func (list[T]) len() int { return 0 }

func free(int, string) {
	_ = 1
}
`
	found := measured{}
	sizes(found, parsed(t, "a/p.go", text))
	want := measured{
		{fileLines, "a/p.go"}:         12,
		{methods, "a.list"}:           2,
		{functionLines, "a.list.add"}: 2, {parameters, "a.list.add"}: 3,
		{functionLines, "a.list.len"}: 1, {parameters, "a.list.len"}: 0,
		{functionLines, "a.free"}: 3, {parameters, "a.free"}: 2,
	}
	if !maps.Equal(found, want) {
		t.Errorf("measured %v, want %v", found, want)
	}
	found = measured{}
	sizes(found, parsed(t, "a/p_test.go", text))
	if want := (measured{{fileLines, "a/p_test.go"}: 12}); !maps.Equal(found, want) {
		t.Errorf("of a test %v is measured, want %v", found, want)
	}
}

func TestWhatIsMeasuredIsHeldToTheRule(t *testing.T) {
	var printed strings.Builder
	err := judge(&printed, measured{{methods, "a.T"}: 30, {parameters, "a.f"}: 6})
	if err != nil {
		t.Errorf("a tree that keeps the rules: %v", err)
	}
	if n := strings.Count(printed.String(), "\n"); n != len(rules) || !strings.Contains(printed.String(), "largest 30, a.T") {
		t.Errorf("%d lines for %d rules:\n%s", n, len(rules), &printed)
	}
	err = judge(io.Discard, measured{{methods, "a.T"}: 31, {parameters, "a.f"}: 6})
	if err == nil || !strings.HasSuffix(err.Error(), "a.T has 31, at most 30") {
		t.Errorf("a type with a method too many: %v", err)
	}
}

func TestBannedCallsNeedAReason(t *testing.T) {
	const head = "package p\n\nimport (\n\tsys \"os\"\n\t\"time\"\n)\n\n"
	for _, c := range []struct{ path, body, want string }{
		{"a/p.go", `var _ = sys.Rename`, "a/p.go:8: os.Rename instead of"},
		{"a/p.go", "//house:allow os.Rename: within a tmpfs\nvar _ = sys.Rename", ""},
		{"a/p.go", "var _ = sys.Rename //house:allow os.Rename: within a tmpfs", ""},
		{"a/p.go", "//house:allow os.Create: within a tmpfs\nvar _ = sys.Rename", "os.Rename instead of|a permission for os.Create"},
		{"a/p.go", "var _ = sys.Rename //house:allow os.Rename", "gives no reason"},
		{"a/p.go", "//house:allow os.Rename: it was called here\nvar _ = 1", "a permission for os.Rename"},
		{"a/p.go", `var _ = time.Sleep`, ""},
		{"a/p_test.go", `var _ = sys.Rename`, ""},
		{"a/p_test.go", `func f() { time.Sleep(1) }`, "a/p_test.go:8: time.Sleep instead of"},
		{"e2e/p.go", `var _ = sys.Rename`, ""},
	} {
		found := measured{}
		calls(found, parsed(t, c.path, head+c.body+"\n"))
		var names []string
		for _, s := range sorted(found) {
			names = append(names, s.name)
		}
		got := strings.Join(names, "\n")
		for want := range strings.SplitSeq(c.want, "|") {
			if !strings.Contains(got, want) || (got == "") != (want == "") {
				t.Errorf("%s, %s:\ngot  %q\nwant %q", c.path, c.body, got, want)
			}
		}
	}
}

func TestKeysOfTheLogAreConstants(t *testing.T) {
	const text = `package p

func f() {
	log.With("job", id).Info("job started", key.PID, "pid", "node", n)
	log.Error("this is no key")
	fmt.Println("a", "b")
}
`
	found := measured{}
	keys(found, parsed(t, "a/p.go", text))
	if want := (measured{{rawKeys, "a"}: 2}); !maps.Equal(found, want) {
		t.Errorf("found %v, want %v", found, want)
	}
}

func TestImportsOfTheSameLayerAreNotDownwards(t *testing.T) {
	name := filepath.Join(t.TempDir(), "arrows_test.go")
	text := fmt.Sprintf("package p\n\nvar layers = [][]string{\n\t{%q},\n\t{%q, %q}, // why\n}\n", "top", "scripts/house/testdata/circle", "low")
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	layers, err := readLayers(name)
	if want := map[string]int{"top": 1, "scripts/house/testdata/circle": 2, "low": 2}; err != nil || !maps.Equal(layers, want) {
		t.Fatalf("read %v, %v, want %v", layers, err, want)
	}
	p := circle(t)
	for used, want := range map[string]int{"top": 1, "low": 1, "in-no-layer": 1} {
		p.Imports = map[string]*packages.Package{module + used: nil}
		found := measured{}
		if imports(found, p, layers); len(found) != want {
			t.Errorf("an import of %s: %v", used, found)
		}
	}
	layers["low"] = 3
	p.Imports = map[string]*packages.Package{module + "low": nil, "os": nil}
	found := measured{}
	if imports(found, p, layers); len(found) != 0 {
		t.Errorf("imports of a lower layer and of another module: %v", found)
	}
}

func circle(t *testing.T) *packages.Package {
	t.Helper()
	all, err := load(module + "scripts/house/testdata/circle")
	if err != nil {
		t.Fatal(err)
	}
	return all[0]
}

func TestAFileUsesWhereWhatItNamesIsDeclared(t *testing.T) {
	p := circle(t)
	number := map[string]int{}
	for i, name := range p.CompiledGoFiles {
		number[filepath.Base(name)] = i
	}
	top, middle, bottom := number["top.go"], number["middle.go"], number["bottom.go"]
	want := newGraph(3)
	want.add(top, middle)
	want.add(top, bottom)
	want.add(middle, bottom)
	want.add(bottom, middle)
	g := references(p)
	if !slices.EqualFunc(g, want, slices.Equal) {
		t.Errorf("top, middle, bottom are %d, %d, %d and the arrows %v, want %v", top, middle, bottom, g, want)
	}
	if n, in := g.upward(g.order()), g.inCircles(); n != 1 || in != 2 {
		t.Errorf("%d arrows upwards and %d files in a circle, want 1 and 2", n, in)
	}
}

func TestTheBestOrderIsFound(t *testing.T) {
	const n = 40
	g := newGraph(n)
	for from := range n {
		for to := from + 1; to < n; to += 1 + from%3 {
			g.add(to*7%n, from*7%n) // a permutation: 7 and 40 have no common divisor
		}
	}
	if got := g.upward(g.order()); got != 0 {
		t.Errorf("%d arrows upwards among files without a circle", got)
	}
	circles := newGraph(9) // three circles of three, each of which needs one arrow upwards
	for i := range 9 {
		circles.add(i, i/3*3+(i+1)%3)
	}
	if got, in := circles.upward(circles.order()), circles.inCircles(); got != 3 || in != 9 {
		t.Errorf("%d arrows upwards and %d files in circles, want 3 and 9", got, in)
	}
}
