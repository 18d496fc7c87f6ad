package preflight

import (
	"path/filepath"
	"runtime"
	"testing"

	"github.com/migrate-hpc/migrate/job"
	"github.com/migrate-hpc/migrate/testenv"
)

func TestWhatARestoreHereWouldLackIsFoundWhileTheJobIsHere(t *testing.T) {
	dir := t.TempDir()
	rec := job.Record{ID: "jaaaaaaaaaa"}
	node := Node{MemoryDir: dir, Jobs: []job.Record{rec}}
	n := Needs{Arch: runtime.GOARCH, Memory: 1 << 50, Files: []File{{Path: dir, Size: -1, Mode: modeOf(t, dir), Locked: true}}}
	check := func(want ...Code) {
		t.Helper()
		findings, err := CheckRestore(testenv.Bounded(t), n, rec, node)
		if err != nil {
			t.Fatal(err)
		}
		wantCodes(t, findings, append([]Code{CRIUMissing}, want...)...)
	}
	check() // the job itself, its memory and its locks are not in the way
	if len(node.Jobs) != 1 {
		t.Error("the list of jobs was changed")
	}
	n.Files = append(n.Files, File{Path: filepath.Join(dir, "none")})
	check(FileMissing)
	node.Jobs = append(node.Jobs, job.Record{ID: "jbbbbbbbbbb", Spec: job.Spec{Network: job.Network{Mode: "br0", Address: "10.0.0.7/24", MAC: "02:00:00:00:00:01"}}})
	rec.Spec.Network = job.Network{Mode: "br0", Address: "10.0.0.7/24", MAC: "02:00:00:00:00:02"}
	check(FileMissing, AddressTaken)
}
