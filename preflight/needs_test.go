package preflight

import (
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"github.com/migrate-hpc/migrate/job"
	"github.com/migrate-hpc/migrate/testenv"
)

func TestAPeersNeedsAreBounded(t *testing.T) {
	for name, n := range map[string]Needs{
		"files":    {Files: make([]File, MaxFiles+1)},
		"memory":   {Memory: -1},
		"overflow": {Memory: 1<<63 - 1},
		"parts":    {Memory: 5, Segments: 6},
		"relative": {Files: []File{{Path: "etc/passwd"}}},
	} {
		if _, err := CheckNode(testenv.Bounded(t), n, job.Record{}, Node{MemoryDir: t.TempDir()}); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func TestNeedsFitIntoOneMessageWithTheRecord(t *testing.T) {
	rec := job.Record{Spec: job.Spec{Env: []string{strings.Repeat("e", 300<<10)}}}
	n := Needs{}
	for i := range 30000 {
		n.Files = append(n.Files, File{Path: fmt.Sprintf("/%s/%d", strings.Repeat("<", 40), i), Size: 1 << 40, Mode: 0o100644, Inode: 1 << 60})
	}
	all := len(n.Files)
	n.bound(rec)
	data, err := json.Marshal(struct {
		N Needs
		R job.Record
	}{n, rec})
	if err != nil {
		t.Fatal(err)
	}
	if len(data) > maxOffer+1000 || len(n.Files) == 0 || len(n.Files)+n.FilesLeftOut != all {
		t.Errorf("%d bytes with %d files, %d left out", len(data), len(n.Files), n.FilesLeftOut)
	}
}

func TestNeedsCrossTheWireWhole(t *testing.T) {
	n := needs()
	n.Files, n.FilesLeftOut = []File{{"/f", 1, 2, 3, true, true, 4}}, 4
	n.Mounts = []Mount{{"/m", "nfs4", true}}
	data, err := json.Marshal(n)
	if err != nil {
		t.Fatal(err)
	}
	var got Needs
	if err := json.Unmarshal(data, &got); err != nil || !reflect.DeepEqual(got, n) {
		t.Errorf("%+v, %v", got, err)
	}
}
