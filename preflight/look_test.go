package preflight

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/migrate-hpc/migrate/testenv"
)

func TestNewsOfAFrozenJobAreWhatItHasComeToHoldSinceTheLook(t *testing.T) {
	j := start(t, "newcomer", nil)
	look, err := CheckJob(testenv.Bounded(t), j.rec, j.init, j.cg, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, step := range []struct {
		do     string
		file   string // of which the target hears
		locked bool
		codes  []Code
	}{
		{do: ""},
		{do: "lock", file: "input", locked: true},
		{do: "open", file: "other", locked: true},
		{do: "map", file: "third"},
		{do: "lease", file: "leased", codes: []Code{LeaseHeld}},
		{do: "device", codes: []Code{DeviceOpen}},
		{do: "child", codes: []Code{DeviceOpen}},
	} {
		j.have(t, step.do)
		files, findings := j.news(t, look)
		wantCodes(t, findings, step.codes...)
		found := false
		for _, f := range files {
			found = found || f.Path == filepath.Join(j.dir, step.file) && (f.Locked || !step.locked)
		}
		if found != (step.file != "") {
			t.Errorf("after %q the target is asked for %+v", step.do, files)
		}
		if look, err = LookAt(testenv.Bounded(t), j.rec, j.init, j.cg); err != nil {
			t.Fatal(err)
		}
		if step.codes == nil {
			continue
		}
		if files, findings = j.news(t, look); len(files)+len(findings) > 0 {
			t.Errorf("what a look has seen is news: %v, %v", files, findings)
		}
	}
}

// have has a newcomer do something.
func (j *running) have(t *testing.T, do string) {
	t.Helper()
	if do == "" {
		return
	}
	word := filepath.Join(j.dir, "do")
	if err := errors.Join(os.WriteFile(word+".new", []byte(do), 0o644), os.Rename(word+".new", word)); err != nil {
		t.Fatal(err)
	}
	eventually(t, do, func() bool {
		done, _ := os.ReadFile(filepath.Join(j.dir, "done"))
		return string(done) == do
	})
}

func (j *running) news(t *testing.T, l *Look) ([]File, []Finding) {
	t.Helper()
	if err := j.cg.Freeze(testenv.Bounded(t)); err != nil {
		t.Fatal(err)
	}
	files, findings, err := l.News(testenv.Bounded(t))
	if thaw := j.cg.Thaw(testenv.Bounded(t)); err != nil || thaw != nil {
		t.Fatal(err, thaw)
	}
	return files, findings
}
