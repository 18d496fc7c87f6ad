package handoff

import (
	"errors"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
)

func fence(t *testing.T, path string) *Fence {
	t.Helper()
	f, err := OpenFence(path)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func TestFenceAdmitsEachEpochOnceEvenAfterARestart(t *testing.T) {
	path := filepath.Join(t.TempDir(), "fence")
	for _, c := range []struct {
		job   string
		epoch int64
		stale bool
	}{{"a", 1, false}, {"a", 1, true}, {"a", 3, false}, {"a", 2, true}, {"b", 1, false}, {"a", 0, true}, {"c", -1, true}} {
		err := fence(t, path).Admit(c.job, c.epoch)
		if errors.Is(err, ErrStaleEpoch) != c.stale || (err != nil) != c.stale {
			t.Errorf("%+v: %v", c, err)
		}
	}
	if got := fence(t, path).Highest("a"); got != 3 {
		t.Errorf("highest is %d", got)
	}
}

func TestFenceAdmitsOneOfManyWithTheSameEpoch(t *testing.T) {
	f := fence(t, filepath.Join(t.TempDir(), "fence"))
	var admitted atomic.Int32
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			if f.Admit("a", 1) == nil {
				admitted.Add(1)
			}
		})
	}
	all.Wait()
	if admitted.Load() != 1 {
		t.Errorf("%d were admitted", admitted.Load())
	}
}

func TestFenceThatCannotBeWrittenAdmitsNothing(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "gone")
	f := fence(t, filepath.Join(dir, "fence"))
	if err := f.Admit("a", 1); err == nil {
		t.Fatal("admitted")
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := f.Admit("a", 1); err != nil {
		t.Errorf("after the disk is well again: %v", err)
	}
}

func TestFenceThatIsDamagedIsAnErrorNotAnEmptyOne(t *testing.T) {
	path := filepath.Join(t.TempDir(), "fence")
	for _, content := range []string{"", "{", `{"format":2,"epochs":{}}`, `{"format":1}`} {
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := OpenFence(path); err == nil {
			t.Errorf("%q was read", content)
		}
	}
}

func TestFenceForgetsAJobAndItBeginsAnew(t *testing.T) {
	f := fence(t, filepath.Join(t.TempDir(), "fence"))
	if err := f.Admit("a", 5); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := f.Forget("a"); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.Admit("a", 1); err != nil {
		t.Error(err)
	}
}
