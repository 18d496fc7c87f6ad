package migrate

import (
	"fmt"
	"go/ast"
	"go/constant"
	"go/importer"
	"go/parser"
	"go/token"
	"go/types"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"
)

var constantName = regexp.MustCompile("`([a-z]+(?:/[a-z]+)*)\\.([A-Za-z]+)`")

// The numbers in docs/limits.md are those of the code.
func TestLimitsAreThoseOfTheCode(t *testing.T) {
	text, err := os.ReadFile("docs/limits.md")
	if err != nil {
		t.Fatal(err)
	}
	known := map[string]*types.Scope{}
	held := 0
	for line := range strings.Lines(string(text)) {
		names := constantName.FindAllStringSubmatch(line, -1)
		if !strings.HasPrefix(line, "|") || len(names) == 0 {
			continue
		}
		var values []string
		for _, cell := range strings.Split(line, "|")[2:] {
			if cell = strings.TrimSpace(cell); cell != "" && !strings.HasPrefix(cell, "`") {
				values = append(values, cell)
			}
		}
		if len(values) != len(names) {
			t.Errorf("%d numbers for %d constants: %s", len(values), len(names), line)
			continue
		}
		for i, n := range names {
			dir := n[1]
			if _, err := os.Stat(dir); err != nil {
				dir = path.Join("agent", dir)
			}
			if known[dir] == nil {
				known[dir] = constantsOf(t, dir)
			}
			c, ok := known[dir].Lookup(n[2]).(*types.Const)
			if !ok {
				t.Errorf("%s has no constant %s", dir, n[2])
				continue
			}
			if got := reading(c); got != parsed(values[i]) {
				t.Errorf("%s.%s is %s, and docs/limits.md says %s", n[1], n[2], got, values[i])
			}
			held++
		}
	}
	if held < 30 {
		t.Errorf("only %d numbers are held to the code", held)
	}
}

// standard finds packages of the standard library, and nothing in others: no limit is
// made of theirs.
type standard struct{ std types.Importer }

func (s standard) Import(name string) (*types.Package, error) {
	if name == "time" {
		return s.std.Import(name)
	}
	p := types.NewPackage(name, path.Base(name))
	p.MarkComplete()
	return p, nil
}

func constantsOf(t *testing.T, dir string) *types.Scope {
	t.Helper()
	set := token.NewFileSet()
	names, err := filepath.Glob(filepath.Join(dir, "*.go"))
	if err != nil || len(names) == 0 {
		t.Fatalf("no package in %s: %v", dir, err)
	}
	var files []*ast.File
	for _, name := range names {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		f, err := parser.ParseFile(set, name, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, f)
	}
	config := types.Config{Importer: standard{importer.ForCompiler(set, "source", nil)}, Error: func(error) {}, IgnoreFuncBodies: true}
	p, _ := config.Check(dir, set, files, nil) // what is not found in other packages is no constant of ours
	return p.Scope()
}

// reading is a constant in one spelling: bytes and counts as a number, times as Go has them.
func reading(c *types.Const) string {
	n, ok := constant.Int64Val(constant.ToInt(c.Val()))
	if !ok {
		return c.Val().String()
	}
	if c.Type().String() == "time.Duration" {
		return time.Duration(n).String()
	}
	return strconv.FormatInt(n, 10)
}

// parsed is a number of the document in the same spelling.
func parsed(cell string) string {
	for unit, shift := range map[string]int{" KiB": 10, " MiB": 20, " GiB": 30} {
		if digits, ok := strings.CutSuffix(cell, unit); ok {
			n, err := strconv.ParseInt(digits, 10, 64)
			if err != nil {
				return cell
			}
			return fmt.Sprint(n << shift)
		}
	}
	return cell
}
