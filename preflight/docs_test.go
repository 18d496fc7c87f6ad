package preflight

import (
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"os"
	"regexp"
	"slices"
	"strconv"
	"testing"
)

// TestEveryCodeIsExplainedToUsers compares code.go with the tables of docs/jobs.md,
// in both directions.
func TestEveryCodeIsExplainedToUsers(t *testing.T) {
	codes := declaredCodes(t)
	if len(codes) == 0 {
		t.Fatal("code.go declares no codes")
	}
	text, err := os.ReadFile("../docs/jobs.md")
	if err != nil {
		t.Fatal(err)
	}
	explained := map[string]bool{}
	for _, row := range regexp.MustCompile("(?m)^\\| `([a-z-]+)` \\| [^|]+ \\| [^|]+ \\|$").FindAllSubmatch(text, -1) {
		explained[string(row[1])] = true
	}
	for _, c := range slices.Sorted(maps.Keys(codes)) {
		if !explained[c] {
			t.Errorf("docs/jobs.md does not explain %s", c)
		}
	}
	for _, c := range slices.Sorted(maps.Keys(explained)) {
		if !codes[c] {
			t.Errorf("docs/jobs.md explains %s, which code.go does not declare", c)
		}
	}
}

// declaredCodes reads the constants of type Code.
func declaredCodes(t *testing.T) map[string]bool {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), "code.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	codes := map[string]bool{}
	ast.Inspect(file, func(n ast.Node) bool {
		spec, ok := n.(*ast.ValueSpec)
		if !ok {
			return true
		}
		kind, ok := spec.Type.(*ast.Ident)
		if !ok || kind.Name != "Code" {
			return true
		}
		for _, v := range spec.Values {
			code, err := strconv.Unquote(v.(*ast.BasicLit).Value)
			if err != nil {
				t.Fatal(err)
			}
			codes[code] = true
		}
		return true
	})
	return codes
}
