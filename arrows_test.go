package migrate

import (
	"os"
	"os/exec"
	"strings"
	"testing"
	"unicode"
)

const module = "github.com/migrate-hpc/migrate/"

// layers are the packages from the top of the house to its ground. A package imports from lower
// rows only, and those of one row do not know each other. A new package goes into the lowest row
// that lies above all that it imports.
var layers = [][]string{
	{"e2e/node", "e2e/demo", "e2e/bench", "e2e/tamper", "e2e/vm/shell", "scripts/house"},
	{"e2e/vm", "e2e/vm/guest"},
	{"e2e/oracle", "e2e/vm/guest/api"}, // they run where nothing else is
	{"cmd/migrate"},
	{"demo", "report", "agent"}, // all three are callers of lower ones; agents draw no reports
	{"agent/server"},
	{"agent/transfer"},
	{"agent/copies"},
	{"agent/source", "agent/target"}, // the two halves of a move do not know each other
	{"agent/launch"},
	{"agent/peer", "agent/node/nodetest"},
	{"agent/node"},
	{"agent/progress", "agent/caller"},
	{"agent/httpjson"},
	{"shim"}, // it outlives the agent
	{"checkpoint", "restore", "store/directory", "store/storetest"}, // source and target share formats, never code
	{"checkpoint/scan", "restore/uffd", "store"},
	{"restore/pagestore", "preflight"},
	{"restore/pageset", "fileaccess"}, // fileaccess serves source, target and preflight
	{"carry/table"},                   // of both halves of all resources
	{"carry/calls", "carry/descriptors", "carry/filelocks", "carry/privatetmpfs", "carry/queues", "carry/segments", "carry/socketnames", "carry/socketoptions", "carry/threads", "carry/unread"},
	{"carry"},
	{"criu/image"},
	{"criu"},
	{"output", "netpolicy", "agent/api"}, // callers of an agent link no more of it than api
	{"handoff"},                          // who owns a job must not depend on how it travels
	{"job", "identity"},                  // identity serves source, target and images alike
	{"namespaces"},                       // it knows nothing of jobs, agents or CRIU
	{"transport"},                        // payloads are opaque to it
	{"testenv"},                          // tests of everything above use it
	{"stream"},                           // nor does it know where its frames travel
	{"namespaces/network"},
	{"affinity", "durable", "inject", "mqueue", "tmpfs", "namespaces/cgroup", "namespaces/network/antispoof", "namespaces/network/conflict", "transport/pki"},
	{"namespaces/network/classifier", "namespaces/network/sockdiag"},
	{"failpoint", "osthread", "parallel", "checkpoint/converge", "humanize", "logkey", "pidmap", "printable", "safepath", "timens"},
	{"procfs"},
	{"exactjson", "linux"},
}

// strangers do not know each other although one of them lies lower; a name stands for the package
// and all below it.
var strangers = []struct{ from, to, why string }{
	{"agent/source", "agent/target", "the two halves of a move do not know each other"},
	{"shim", "handoff", "it is told what to do and decides nothing"},
	{"checkpoint", "handoff", "the roles are driven, they do not decide"},
	{"restore", "handoff", "the roles are driven, they do not decide"},
	{"carry", "checkpoint", "a resource is asked, it does not ask"},
	{"carry", "restore", "a resource is asked, it does not ask"},
	{"preflight", "handoff", "it looks, it does not move"},
	{"checkpoint", "restore", "source and target share formats, never code"},
	{"restore", "checkpoint", "source and target share formats, never code"},
	{"netpolicy", "namespaces", "it decides by what is written, not by what is there"},
	{"store", "agent", "checkpoints outlive agents, and are no part of one"},
	{"store", "handoff", "it keeps what it is given, it does not decide who owns a job"},
	{"report", "handoff", "it draws what a record says and asks nothing else"},
	{"report", "transport", "it draws what a record says and asks nothing else"},
}

func TestImportsGoDownwardsOnly(t *testing.T) {
	row := map[string]int{}
	for i, names := range layers {
		for _, name := range names {
			if row[name] != 0 {
				t.Errorf("layers has %s twice", name)
			}
			row[name] = i + 1
		}
	}
	imports := listed(t, "Imports")
	for pkg, uses := range imports {
		if row[pkg] == 0 && pkg != "" {
			t.Errorf("layers lacks %s: write it into the lowest row above all that it imports", pkg)
			continue
		}
		for _, used := range uses {
			if row[used] <= row[pkg] {
				t.Errorf("%s imports %s, which has no lower row in layers", pkg, used)
			}
		}
	}
	for name := range row {
		if _, there := imports[name]; !there {
			t.Errorf("layers has %s, which is no package", name)
		}
	}
}

func TestStrangersDoNotKnowEachOther(t *testing.T) {
	deps := listed(t, "Deps")
	for _, s := range strangers {
		if deps[s.from] == nil || deps[s.to] == nil {
			t.Errorf("%s or %s is no package: the row guards nothing", s.from, s.to)
		}
		for pkg, uses := range deps {
			for _, used := range uses {
				if within(pkg, s.from) && within(used, s.to) {
					t.Errorf("%s depends on %s: %s", pkg, used, s.why)
				}
			}
		}
	}
}

// CRIU is spoken to in few places.
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

// listed maps each package of ours to those of ours in a field of go list: Imports, or Deps for all
// that it depends on.
func listed(t *testing.T, field string) map[string][]string {
	t.Helper()
	out, err := exec.Command("go", "list", "-f", "{{.ImportPath}} {{join ."+field+" \" \"}}", "./...").Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	all := map[string][]string{}
	for line := range strings.Lines(string(out)) {
		f := strings.Fields(line)
		pkg := strings.Trim(strings.TrimPrefix(f[0], strings.TrimSuffix(module, "/")), "/") // "" is the root
		all[pkg] = []string{}
		for _, used := range f[1:] {
			if name, ours := strings.CutPrefix(used, module); ours {
				all[pkg] = append(all[pkg], name)
			}
		}
	}
	return all
}

// within tells whether pkg is dir or lies below it.
func within(pkg, dir string) bool { return pkg == dir || strings.HasPrefix(pkg, dir+"/") }

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
	for pkg := range listed(t, "Imports") {
		if pkg != "" && !within(pkg, "e2e") && !named[pkg] {
			t.Errorf("the map in doc.go lacks %s", pkg)
		}
	}
}
