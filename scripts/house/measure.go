package main

import (
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/tools/go/packages"
)

const module = "github.com/migrate-hpc/migrate/"

// source is one Go file, whatever its build constraints.
type source struct {
	*ast.File
	set  *token.FileSet
	path string // below the root
}

func (s source) line(p token.Pos) int { return s.set.Position(p).Line }

func parseAll(root string) ([]source, error) {
	var all []source
	set := token.NewFileSet()
	err := filepath.WalkDir(root, func(name string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && name != root && d.Name()[0] == '.':
			return fs.SkipDir
		case d.IsDir() || path.Ext(name) != ".go":
			return nil
		}
		f, err := parser.ParseFile(set, name, nil, parser.ParseComments|parser.SkipObjectResolution)
		below, _ := filepath.Rel(root, name) // both are of this walk
		all = append(all, source{f, set, below})
		return err
	})
	return all, err
}

// sizes measures a file, its functions, and what its methods add to their types.
func sizes(found measured, f source) {
	found[subject{fileLines, f.path}] = f.line(f.FileEnd - 1) // the end lies behind the last line
	if f.isTest() {
		return
	}
	for _, d := range f.Decls {
		fn, ok := d.(*ast.FuncDecl)
		if !ok {
			continue
		}
		name := path.Dir(f.path) + "."
		if fn.Recv != nil {
			name += receiver(fn.Recv.List[0].Type)
			found[subject{methods, name}]++
			name += "."
		}
		name += fn.Name.Name
		found[subject{functionLines, name}] = f.line(fn.End()) - f.line(fn.Pos()) + 1
		found[subject{parameters, name}] = fn.Type.Params.NumFields()
	}
}

// receiver is the name of a method's type.
func receiver(e ast.Expr) string {
	switch e := e.(type) {
	case *ast.StarExpr:
		return receiver(e.X)
	case *ast.IndexExpr: // of one type parameter
		return receiver(e.X)
	case *ast.IndexListExpr:
		return receiver(e.X)
	}
	return e.(*ast.Ident).Name
}

// readLayers reads the order of the packages out of the test that holds it too.
func readLayers(file string) (map[string]int, error) {
	f, err := parser.ParseFile(token.NewFileSet(), file, nil, 0)
	if err != nil {
		return nil, err
	}
	list := f.Scope.Lookup("layers")
	if list == nil {
		return nil, errors.New(file + " has no list of layers")
	}
	layers := map[string]int{}
	for i, row := range list.Decl.(*ast.ValueSpec).Values[0].(*ast.CompositeLit).Elts {
		ast.Inspect(row, func(n ast.Node) bool {
			if lit, ok := n.(*ast.BasicLit); ok {
				name, _ := strconv.Unquote(lit.Value) // it was parsed
				layers[name] = i + 1
			}
			return true
		})
	}
	return layers, nil
}

func load(patterns ...string) ([]*packages.Package, error) {
	all, err := packages.Load(&packages.Config{Mode: packages.NeedName | packages.NeedImports | packages.NeedFiles | packages.NeedCompiledGoFiles |
		packages.NeedSyntax | packages.NeedTypes | packages.NeedTypesInfo | packages.NeedExportFile}, patterns...)
	for _, p := range all {
		for _, e := range p.Errors {
			err = errors.Join(err, e)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("load packages: %w", err)
	}
	return all, nil
}

// imports finds what a package imports from its own layer or one above. A package in no layer has
// no place below others, and none above.
func imports(found measured, p *packages.Package, layers map[string]int) {
	name := strings.TrimPrefix(p.PkgPath, module)
	for used := range p.Imports {
		if used, ours := strings.CutPrefix(used, module); ours && (layers[name] == 0 || layers[used] <= layers[name]) {
			found[subject{upwardImports, name + " imports " + used}] = 1
		}
	}
}

// arrows counts the pairs of files in which the upper uses a declaration of the lower, in
// the best order of the files that is found. A method belongs to the file that it stands in.
func arrows(found measured, p *packages.Package) {
	name := strings.TrimPrefix(p.PkgPath, module)
	if within(name, "e2e") || within(name, "scripts") {
		return
	}
	g := references(p)
	found[subject{upwardArrows, name}] = g.upward(g.order())
	if within(name, "agent") {
		found[subject{filesInCircles, name}] = g.inCircles()
	}
}

func within(name, dir string) bool { return name == dir || strings.HasPrefix(name, dir+"/") }

// references draws an arrow from each file of a package to those that it uses.
func references(p *packages.Package) graph {
	number := map[*token.File]int{}
	for i, f := range p.Syntax {
		number[p.Fset.File(f.FileStart)] = i
	}
	g := newGraph(len(p.Syntax))
	for ident, used := range p.TypesInfo.Uses {
		if used.Pkg() == p.Types && used.Pos().IsValid() {
			g.add(number[p.Fset.File(ident.Pos())], number[p.Fset.File(used.Pos())])
		}
	}
	return g
}
