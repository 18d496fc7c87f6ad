package migrate

import (
	"go/ast"
	"go/token"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

var (
	// routePattern is how the agent registers a route.
	routePattern = regexp.MustCompile(`^(GET|POST|PUT|PATCH|DELETE) (/\S*)$`)
	// routeLine is a route in the document: method, path, who may call, request → answer.
	routeLine = regexp.MustCompile(`^//\t([A-Z]+) +(/v1\S*) +((?:local )?(?:any|owner|root|node)|local) +.*→ \S`)
)

// The routes that agent/api/doc.go lists are those that an agent registers.
func TestTheRoutesInTheDocumentAreThoseOfTheAgent(t *testing.T) {
	text, err := os.ReadFile("agent/api/doc.go")
	if err != nil {
		t.Fatal(err)
	}
	listed := map[string]bool{}
	for line := range strings.Lines(string(text)) {
		m := routeLine.FindStringSubmatch(line)
		if m == nil && strings.Contains(line, "/v1/") {
			t.Errorf("agent/api/doc.go: this route lacks who may call or what it answers: %s", line)
		}
		if m != nil {
			listed[m[1]+" "+m[2]] = true
		}
	}
	registered := routesIn(t, "agent")
	for _, route := range slices.Sorted(maps.Keys(registered)) {
		if !listed[route] {
			t.Errorf("agent/api/doc.go lacks %s, which %s registers", route, registered[route])
		}
		delete(listed, route)
	}
	for route := range listed {
		t.Errorf("agent/api/doc.go has %s, which no agent registers", route)
	}
}

// routesIn finds the patterns of routes in the code beneath a directory, and the file that
// has each: strings, and sums of strings and constants.
func routesIn(t *testing.T, dir string) map[string]string {
	t.Helper()
	packages, constants := map[string]map[string]*ast.File{}, map[string]string{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.IsDir() {
			return err
		}
		packages[path] = packageIn(t, token.NewFileSet(), path)
		for name, value := range stringConstants(packages[path]) {
			constants[d.Name()+"."+name] = value
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]string{}
	for _, files := range packages {
		known := stringConstants(files)
		maps.Copy(known, constants)
		for name, f := range files {
			ast.Inspect(f, func(n ast.Node) bool {
				e, _ := n.(ast.Expr)
				s, isString := stringOf(e, known)
				if isString && routePattern.MatchString(s) {
					found[s] = name
				}
				return !isString // parts of a string are no route
			})
		}
	}
	return found
}
