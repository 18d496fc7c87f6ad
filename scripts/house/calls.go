package main

import (
	"fmt"
	"go/ast"
	"go/token"
	"path"
	"slices"
	"strconv"
	"strings"
)

// bans are calls that have a better way. One that is right where it stands says so in its line or
// the one above:
//
//	//house:allow os.Rename: the new name need not outlive the node
var bans = []struct {
	call    string
	banned  func(source) bool
	instead string
}{
	{"os.Create", source.isProduct, "package durable, which outlives a power failure"},
	{"os.WriteFile", source.isProduct, "package durable, which outlives a power failure"},
	{"os.Rename", source.isProduct, "package durable, which outlives a power failure"},
	{"time.Sleep", source.isTest, "a channel, testing/synctest or a loop that looks at a condition and at a deadline"},
}

func (s source) isTest() bool { return strings.HasSuffix(s.path, "_test.go") }

// isProduct tells whether a file becomes part of the program.
func (s source) isProduct() bool {
	aside := within(s.path, "durable") || within(s.path, "e2e") || within(s.path, "scripts") || strings.Contains(s.path, "/testdata/")
	return !aside && !s.isTest()
}

// calls finds the banned calls of a file that nothing speaks for, and permissions that permit
// nothing.
func calls(found measured, f source) {
	tell := func(line int, format string, args ...any) {
		found[subject{bannedCalls, fmt.Sprintf("%s:%d: ", f.path, line) + fmt.Sprintf(format, args...)}] = 1
	}
	permitted := map[int]string{} // by line: the call
	for _, group := range f.Comments {
		for _, c := range group.List {
			if text, ok := strings.CutPrefix(c.Text, "//house:allow "); ok {
				call, why, _ := strings.Cut(text, ": ")
				permitted[f.line(c.Pos())] = call
				if why == "" {
					tell(f.line(c.Pos()), "%s gives no reason", c.Text)
				}
			}
		}
	}
	used := map[int]bool{}
	for _, c := range f.uses() {
		for _, b := range bans {
			line := f.line(c.at)
			switch {
			case b.call != c.name, !b.banned(f), c.polls && b.call == "time.Sleep":
			case permitted[line] == c.name:
				used[line] = true
			case permitted[line-1] == c.name:
				used[line-1] = true
			default:
				tell(line, "%s instead of %s", c.name, b.instead)
			}
		}
	}
	for line, call := range permitted {
		if !used[line] {
			tell(line, "a permission for %s, which nothing needs", call)
		}
	}
}

// use is a place where a file uses what another package exports, such as os.Create.
type use struct {
	name  string
	at    token.Pos
	polls bool // in a loop that looks at the clock, too
}

func (s source) uses() []use {
	imported := map[string]string{}
	for _, i := range s.Imports {
		full, _ := strconv.Unquote(i.Path.Value) // it was parsed
		imported[path.Base(full)] = full
		if i.Name != nil {
			imported[i.Name.Name] = full
		}
	}
	var all []use
	var loops []ast.Node
	ast.Inspect(s.File, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.ForStmt:
			loops = append(loops, n)
		case *ast.SelectorExpr:
			if x, ok := n.X.(*ast.Ident); ok && imported[x.Name] != "" {
				all = append(all, use{name: imported[x.Name] + "." + n.Sel.Name, at: n.Pos()})
			}
		}
		return true
	})
	for i := range all {
		all[i].polls = slices.ContainsFunc(loops, func(loop ast.Node) bool {
			inside := func(u use) bool { return loop.Pos() <= u.at && u.at < loop.End() }
			return inside(all[i]) && slices.ContainsFunc(all, func(u use) bool {
				return inside(u) && (u.name == "time.Now" || u.name == "time.Since")
			})
		})
	}
	return all
}

// firstKey is where the keys begin among the arguments of slog's calls.
var firstKey = map[string]int{"Debug": 1, "Info": 1, "Warn": 1, "Error": 1, "With": 0}

// keys counts the keys of the log that a package spells out.
func keys(found measured, f source) {
	if !f.isProduct() {
		return
	}
	ast.Inspect(f.File, func(n ast.Node) bool {
		call, ok := n.(*ast.CallExpr)
		if !ok {
			return true
		}
		method, ok := call.Fun.(*ast.SelectorExpr)
		if !ok {
			return true
		}
		first, logs := firstKey[method.Sel.Name]
		for i := first; logs && i < len(call.Args); i += 2 {
			if lit, ok := call.Args[i].(*ast.BasicLit); ok && lit.Kind == token.STRING {
				found[subject{rawKeys, path.Dir(f.path)}]++
			}
		}
		return true
	})
}
