package migrate

import (
	"go/ast"
	"go/token"
	"regexp"
	"strings"
	"testing"
)

// hintless are words of hints that may do without a command.
var hintless = map[string]string{
	"the same command":        "it is the command that the user has just typed",
	"run the program without": "only an option of the program's own does it, and each program has another one",
}

var (
	// tellsWhatToDo are names whose value is a hint: fields, parameters, variables, results.
	tellsWhatToDo = regexp.MustCompile(`^(\w*Hint|\w*Remedy|hint|remedy)$`)
	// hasCommand is a command in backticks, or one that is the whole hint.
	hasCommand = regexp.MustCompile("`[a-z$/%]|^(migrate|sudo migrate|make|rm|chmod|kill|tail) ")
)

// A hint is what a user types next: each that the code can give contains a command.
func TestEveryHintContainsACommand(t *testing.T) {
	seen, used := 0, map[string]bool{}
	makers, made := map[string]bool{}, map[string][]hint{}
	for _, dir := range goPackages(t) {
		set := token.NewFileSet()
		h := hintsOf(set, packageIn(t, set, dir))
		for _, f := range h.found {
			for _, m := range f.makers {
				makers[m] = true
			}
			seen += checkHint(t, f, used)
		}
		for name, hints := range h.returned {
			made[name] = append(made[name], hints...)
		}
	}
	for name := range makers {
		for _, f := range made[name] {
			seen += checkHint(t, f, used)
		}
	}
	for words, why := range hintless {
		if !used[words] {
			t.Errorf("no hint says %q any more (%s)", words, why)
		}
	}
	if seen < 150 {
		t.Errorf("only %d hints were found", seen)
	}
}

// checkHint returns how many hints it has looked at: an expression may have no text of its own.
func checkHint(t *testing.T, h hint, used map[string]bool) int {
	if h.text == "" {
		return 0
	}
	for words := range hintless {
		if strings.Contains(h.text, words) {
			used[words] = true
			return 1
		}
	}
	if !hasCommand.MatchString(h.text) {
		t.Errorf("%s: no command to type in %q", h.at, h.text)
	}
	return 1
}

// hint is the text of one, without what is put into it, and the functions that make it.
type hint struct {
	at     token.Position
	text   string
	makers []string
}

// hintFinder finds the hints of a package.
type hintFinder struct {
	set       *token.FileSet
	constants map[string]string
	fields    map[string][]string   // of its struct types, in order
	params    map[string][][]string // of its functions of a name
	locals    map[string]string     // strings in variables of the function at hand
	found     []hint
	returned  map[string][]hint // what its functions return, by their name
}

func hintsOf(set *token.FileSet, files map[string]*ast.File) *hintFinder {
	h := &hintFinder{set: set, constants: stringConstants(files), fields: map[string][]string{}, params: map[string][][]string{}, returned: map[string][]hint{}}
	for _, f := range files {
		for _, d := range f.Decls {
			h.declare(d)
		}
	}
	for _, f := range files {
		for _, d := range f.Decls {
			h.locals = map[string]string{}
			fn, _ := d.(*ast.FuncDecl)
			ast.Inspect(d, func(n ast.Node) bool { h.visit(n, fn); return true })
		}
	}
	return h
}

func (h *hintFinder) declare(d ast.Decl) {
	switch d := d.(type) {
	case *ast.FuncDecl:
		h.params[d.Name.Name] = append(h.params[d.Name.Name], namesOf(d.Type.Params))
	case *ast.GenDecl:
		for _, s := range d.Specs {
			if typ, ok := s.(*ast.TypeSpec); ok {
				if st, ok := typ.Type.(*ast.StructType); ok {
					h.fields[typ.Name.Name] = namesOf(st.Fields)
				}
			}
		}
	}
}

func namesOf(list *ast.FieldList) (names []string) {
	if list == nil {
		return nil
	}
	for _, f := range list.List {
		for _, n := range f.Names {
			names = append(names, n.Name)
		}
	}
	return names
}

// visit takes what a node binds to the name of a hint.
func (h *hintFinder) visit(n ast.Node, fn *ast.FuncDecl) {
	switch n := n.(type) {
	case *ast.KeyValueExpr:
		h.bind([]string{nameOf(n.Key)}, []ast.Expr{n.Value})
	case *ast.ValueSpec:
		var names []string
		for _, id := range n.Names {
			names = append(names, id.Name)
		}
		h.bind(names, n.Values)
	case *ast.AssignStmt:
		var names []string
		for i, left := range n.Lhs {
			names = append(names, nameOf(left))
			if len(n.Rhs) == len(n.Lhs) {
				h.locals[nameOf(left)] = h.read(n.Rhs[i]).text
			}
		}
		h.bind(names, n.Rhs)
	case *ast.CallExpr:
		for _, params := range h.params[nameOf(n.Fun)] {
			h.bind(params, n.Args[:min(len(n.Args), len(params))])
		}
	case *ast.CompositeLit:
		h.visitLiteral(n)
	case *ast.ReturnStmt:
		if fn == nil {
			return
		}
		h.bind(namesOf(fn.Type.Results), n.Results)
		if list := fn.Type.Results; list != nil && len(n.Results) == 1 && nameOf(list.List[0].Type) == "string" {
			h.returned[fn.Name.Name] = append(h.returned[fn.Name.Name], h.read(n.Results[0]))
		}
	}
}

// visitLiteral takes structs that name no fields, and lists of them.
func (h *hintFinder) visitLiteral(n *ast.CompositeLit) {
	fields := func(typ ast.Expr) []string {
		if st, ok := typ.(*ast.StructType); ok {
			return namesOf(st.Fields)
		}
		return h.fields[nameOf(typ)]
	}
	list, isList := n.Type.(*ast.ArrayType)
	if !isList {
		h.bind(fields(n.Type), n.Elts)
		return
	}
	for _, e := range n.Elts {
		if each, ok := e.(*ast.CompositeLit); ok && each.Type == nil {
			h.bind(fields(list.Elt), each.Elts)
		}
	}
}

func (h *hintFinder) bind(names []string, values []ast.Expr) {
	for i, v := range values {
		if _, keyed := v.(*ast.KeyValueExpr); i < len(names) && !keyed && tellsWhatToDo.MatchString(names[i]) {
			h.found = append(h.found, h.read(v))
		}
	}
}

// read collects the strings that an expression puts together.
func (h *hintFinder) read(e ast.Expr) hint {
	r := hint{at: h.set.Position(e.Pos())}
	ast.Inspect(e, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.BasicLit, *ast.Ident:
			text, known := stringOf(n.(ast.Expr), h.constants)
			if id, ok := n.(*ast.Ident); ok && !known {
				text = h.locals[id.Name]
			}
			r.text += text
		case *ast.SelectorExpr, *ast.FuncLit, *ast.IndexExpr, *ast.CompositeLit:
			return false
		case *ast.CallExpr:
			name := nameOf(n.Fun)
			if from, ok := n.Fun.(*ast.SelectorExpr); ok && isText[nameOf(from.X)] || name == "orElse" {
				for _, arg := range n.Args {
					part := h.read(arg)
					r.text += part.text
				}
			} else if n == e {
				r.makers = append(r.makers, name)
			}
			return false
		}
		return true
	})
	return r
}

// isText are packages whose functions put strings together.
var isText = map[string]bool{"fmt": true, "strings": true, "cmp": true}
