package migrate

import (
	"os"
	"os/exec"
	"strings"
	"testing"
	"unicode"
)

const module = "github.com/migrate-hpc/migrate/"

// forbidden says which package may not depend on which, and why. A name stands for
// the package and all below it.
var forbidden = []struct{ from, to, why string }{
	{"namespaces", "", "it is a leaf: launch knows nothing of jobs, agents or CRIU"},
	{"timens", "", "it is a leaf: arithmetic and two kernel touches"},
	{"pidmap", "", "it is a leaf: a reading of /proc"},
	{"mqueue", "", "it is a leaf: one kernel interface"},
	{"tmpfs", "", "it is a leaf: files in memory, from one mount to another"},
	{"netpolicy", "agent", "it is told what is asked and decides nothing else"},
	{"netpolicy", "namespaces", "it decides by what is written, not by what is there"},
	{"transport", "criu", "payloads are opaque to it"},
	{"transport", "job", "payloads are opaque to it"},
	{"failpoint", "", "it is a leaf: every package may name its points"},
	{"osthread", "", "it is a leaf: everything may run on a thread of its own"},
	{"safepath", "", "it is a leaf: it looks at directories, whosever"},
	{"durable", "", "it is a leaf: everything that must last is written by it"},
	{"checkpoint/converge", "", "it is arithmetic on what was measured"},
	{"handoff", "checkpoint", "it declares what it needs; who owns a job must not depend on how it travels"},
	{"handoff", "restore", "it declares what it needs; who owns a job must not depend on how it travels"},
	{"handoff", "transport", "a word's way to the peer is not its business"},
	{"handoff", "namespaces", "it is pure but for its journal"},
	{"checkpoint", "restore", "source and target share formats, never code"},
	{"checkpoint", "handoff", "the roles are driven, they do not decide"},
	{"checkpoint", "agent", "imports go downwards"},
	{"restore", "checkpoint", "source and target share formats, never code"},
	{"criu", "checkpoint", "imports go downwards"},
	{"stream", "criu", "imports go downwards"},
	{"stream", "transport", "imports go downwards"},
	{"linux", "", "it is a leaf: everything may call the kernel"},
	{"restore", "handoff", "the roles are driven, they do not decide"},
	{"restore", "agent", "imports go downwards"},
	{"identity", "job", "it looks at threads, whosever"},
	{"procfs", "", "it is a leaf: a reading of /proc"},
	{"identity", "checkpoint", "source, target and images are all asked through it"},
	{"identity", "restore", "source, target and images are all asked through it"},
	{"identity", "preflight", "imports go downwards"},
	{"output", "agent", "shim and agent both ask it"},
	{"output", "shim", "shim and agent both ask it"},
	{"fileaccess", "job", "it looks at processes and files, whosever"},
	{"fileaccess", "restore", "source and target both ask it"},
	{"fileaccess", "preflight", "imports go downwards"},
	{"shim", "agent", "it outlives the agent"},
	{"shim", "handoff", "it is told what to do and decides nothing"},
	{"preflight", "agent", "imports go downwards"},
	{"preflight", "handoff", "it looks, it does not move"},
	{"agent/api", "agent", "callers must not link the agent"},
	{"agent/api", "handoff", "callers must not link the agent"},
	{"agent/api", "checkpoint", "callers must not link the agent"},
	{"printable", "", "it is a leaf: text in, text out"},
	{"humanize", "", "it is a leaf: numbers in, words out"},
	{"report", "cmd", "imports go downwards"},
	{"report", "handoff", "it draws what a record says and asks nobody"},
	{"report", "transport", "it draws what a record says and asks nobody"},
	{"agent", "report", "an agent gives records, callers draw them"},
	{"agent", "cmd", "imports go downwards"},
	{"agent", "demo", "imports go downwards"},
}

func TestImportsGoDownwardsOnly(t *testing.T) {
	deps := dependencies(t)
	for _, rule := range forbidden {
		seen := false
		for pkg, uses := range deps {
			if !within(pkg, rule.from) {
				continue
			}
			seen = true
			for _, used := range uses {
				bad := within(used, rule.to) && !within(used, rule.from) && !within(used, "osthread") && !within(used, "failpoint")
				if rule.from == "agent/api" && rule.to == "agent" || rule.from == "agent" {
					bad = within(used, rule.to) && !within(used, "agent/api") && !within(used, rule.from)
				}
				if bad {
					t.Errorf("%s imports %s: %s", pkg, used, rule.why)
				}
			}
		}
		if !seen {
			t.Errorf("no package %s: the rule %q guards nothing", rule.from, rule.why)
		}
	}
}

// onlyCRIU holds that CRIU is spoken to in one place.
func TestOnlyOnePackageSpeaksToCRIU(t *testing.T) {
	out, err := exec.Command("go", "list", "-f", "{{.ImportPath}} {{join .Imports \" \"}}", "./...").Output()
	if err != nil {
		t.Fatal(err)
	}
	may := map[string]bool{"checkpoint": true, "restore": true, "criu": true, "preflight": true, "criu/image": true}
	for line := range strings.Lines(string(out)) {
		f := strings.Fields(line)
		pkg := strings.TrimPrefix(f[0], module)
		for _, used := range f[1:] {
			if strings.HasPrefix(used, "github.com/checkpoint-restore/go-criu") && !may[pkg] {
				t.Errorf("%s imports %s", pkg, used)
			}
		}
	}
}

// dependencies maps each package of ours to those of ours that it depends on.
func dependencies(t *testing.T) map[string][]string {
	t.Helper()
	out, err := exec.Command("go", "list", "-f", "{{.ImportPath}} {{join .Deps \" \"}}", "./...").Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	deps := map[string][]string{}
	for line := range strings.Lines(string(out)) {
		f := strings.Fields(line)
		pkg := strings.TrimPrefix(f[0], module)
		deps[pkg] = nil
		for _, used := range f[1:] {
			if name, ours := strings.CutPrefix(used, module); ours {
				deps[pkg] = append(deps[pkg], name)
			}
		}
	}
	return deps
}

// within tells whether pkg is dir or lies below it; everything lies below "".
func within(pkg, dir string) bool {
	return dir == "" || pkg == dir || strings.HasPrefix(pkg, dir+"/")
}

// The map in doc.go has every package, and no line twice.
func TestTheMapHasEveryPackageOnce(t *testing.T) {
	text, err := os.ReadFile("doc.go")
	if err != nil {
		t.Fatal(err)
	}
	named, first := map[string]bool{}, map[string]bool{}
	for line := range strings.Lines(string(text)) {
		entry, ok := strings.CutPrefix(line, "//\t")
		if !ok || entry[0] == ' ' {
			continue
		}
		f := strings.FieldsFunc(entry, func(r rune) bool { return unicode.IsSpace(r) || strings.ContainsRune(",:;", r) })
		if first[f[0]] {
			t.Errorf("the map has %s twice", f[0])
		}
		first[f[0]] = true
		for _, word := range f {
			named[word] = true
		}
	}
	for pkg := range dependencies(t) {
		if !strings.Contains(pkg, "e2e/") && !strings.Contains(pkg, "testdata") && pkg != strings.TrimSuffix(module, "/") && !named[pkg] {
			t.Errorf("the map in doc.go lacks %s", pkg)
		}
	}
}
