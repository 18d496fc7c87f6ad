package migrate

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// goPackages are the directories of the product's code.
func goPackages(t *testing.T) []string {
	t.Helper()
	dirs := map[string]bool{}
	err := filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		switch {
		case err == nil && d.IsDir() && (path == "e2e" || path == "scripts" || d.Name() == "testdata" || d.Name() == ".git"):
			return filepath.SkipDir
		case err == nil && filepath.Ext(path) == ".go" && filepath.Dir(path) != ".":
			dirs[filepath.Dir(path)] = true
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return slices.Sorted(maps.Keys(dirs))
}

// packageIn are the files of a package without its tests, by their path.
func packageIn(t *testing.T, set *token.FileSet, dir string) map[string]*ast.File {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(dir, "*.go"))
	if err != nil {
		t.Fatal(err)
	}
	files := map[string]*ast.File{}
	for _, name := range names {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		if files[name], err = parser.ParseFile(set, name, nil, parser.SkipObjectResolution); err != nil {
			t.Fatal(err)
		}
	}
	return files
}

// stringConstants are the constants of a package whose value is a string literal.
func stringConstants(files map[string]*ast.File) map[string]string {
	constants := map[string]string{}
	for _, f := range files {
		for _, d := range f.Decls {
			g, ok := d.(*ast.GenDecl)
			if !ok || g.Tok != token.CONST {
				continue
			}
			for _, s := range g.Specs {
				v := s.(*ast.ValueSpec)
				for i, value := range v.Values {
					if text, ok := stringOf(value, nil); ok {
						constants[v.Names[i].Name] = text
					}
				}
			}
		}
	}
	return constants
}

// stringOf is the value of a string, a constant among these (NAME, or PACKAGE.NAME of another
// package), or a sum of them.
func stringOf(e ast.Expr, constants map[string]string) (string, bool) {
	switch e := e.(type) {
	case *ast.BasicLit:
		s, err := strconv.Unquote(e.Value)
		return s, e.Kind == token.STRING && err == nil
	case *ast.Ident:
		s, ok := constants[e.Name]
		return s, ok
	case *ast.SelectorExpr:
		s, ok := constants[nameOf(e.X)+"."+e.Sel.Name]
		return s, ok
	case *ast.BinaryExpr:
		x, okX := stringOf(e.X, constants)
		y, okY := stringOf(e.Y, constants)
		return x + y, okX && okY && e.Op == token.ADD
	}
	return "", false
}

// nameOf is the last name of a name or selector.
func nameOf(e ast.Expr) string {
	switch e := e.(type) {
	case *ast.Ident:
		return e.Name
	case *ast.SelectorExpr:
		return e.Sel.Name
	}
	return ""
}
