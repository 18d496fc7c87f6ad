package handoff

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

const anotherJob = "janother222"

// wantGuards wants the journal in dir to guard the job of the sample, and the other jobs that are older
// than its damage or not.
func wantGuards(t *testing.T, dir string, others bool) {
	t.Helper()
	j := journal(t, dir)
	defer j.Close()
	long, now := time.Now().Add(-48*time.Hour), time.Now().Add(time.Hour)
	next := sample(StateFrozen)[0]
	if err := j.Guard(next.Job, long); !errors.Is(err, ErrGuarded) {
		t.Errorf("its job is not guarded: %v", err)
	}
	if err := j.Guard(anotherJob, long); errors.Is(err, ErrGuarded) != others {
		t.Errorf("another job that is older: %v", err)
	}
	if err := j.Guard(anotherJob, time.Time{}); errors.Is(err, ErrGuarded) != others {
		t.Errorf("another job of which nothing is known: %v", err)
	}
	if err := j.Guard(anotherJob, now); err != nil {
		t.Errorf("a job that is younger: %v", err)
	}
	next.Move = NewMoveID()
	if err := j.Append(next); !errors.Is(err, ErrGuarded) {
		t.Errorf("a move of its job: %v", err)
	}
	next.Job = anotherJob
	if err := j.Append(next); errors.Is(err, ErrGuarded) != others {
		t.Errorf("a move of another job: %v", err)
	}
	if j.Damaged() == nil {
		t.Error("nothing is said to be damaged")
	}
}

func TestGuardOfAFileWithAFlippedBitIsForTheJobOfTheMove(t *testing.T) {
	for _, states := range [][]State{{StateFrozen}, {StateFrozen, StateCommitted}, {StateFrozen, StateCommitted, StateReleased}} {
		dir, file := written(t, states...)
		whole, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for i := range whole {
			data := bytes.Clone(whole)
			data[i] ^= 1 << (i % 8)
			if records, _, _, err := decodeFile(goldenMove, data); err == nil {
				if last := records[len(records)-1]; last.State != states[len(states)-1] {
					t.Fatalf("byte %d: the move is %s, and was %s", i, last.State, states[len(states)-1])
				}
				continue
			}
			if err := os.WriteFile(file, data, 0o600); err != nil {
				t.Fatal(err)
			}
			// A newline that is gone makes one bad line of two.
			merged := len(states) == 2 && i == bytes.IndexByte(whole, '\n')
			wantGuards(t, dir, len(states) == 1 || merged)
			others, err := filepath.Glob(filepath.Join(dir, "*.journal"))
			if err != nil {
				t.Fatal(err)
			}
			for _, other := range others {
				if other == file {
					continue
				}
				if err := os.Remove(other); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
}

func TestGuardOfAFileWithoutAMoveIsForEveryOlderJob(t *testing.T) {
	for name, spoil := range map[string]func(file string) error{
		"empty":                 func(file string) error { return os.Truncate(file, 0) },
		"cut in its first line": func(file string) error { return os.Truncate(file, 20) },
		"without a newline":     func(file string) error { return os.WriteFile(file, []byte("garbage"), 0o600) },
		"zeros":                 func(file string) error { return os.WriteFile(file, make([]byte, 4096), 0o600) },
		"too large":             func(file string) error { return os.Truncate(file, MaxJournalFile+1) },
		"a directory":           func(file string) error { return errors.Join(os.Remove(file), os.Mkdir(file, 0o700)) },
		"a link":                func(file string) error { return errors.Join(os.Remove(file), os.Symlink("/dev/zero", file)) },
		"a FIFO":                func(file string) error { return errors.Join(os.Remove(file), syscall.Mkfifo(file, 0o600)) },
		"of another move": func(file string) error {
			return os.Rename(file, filepath.Join(filepath.Dir(file), "mfedcba9876543210.journal"))
		},
		"of a name cut short": func(file string) error { return errors.Join(os.Truncate(file, 9), os.Rename(file, file[:len(file)-5])) },
		"of a name of no move": func(file string) error {
			return errors.Join(os.Truncate(file, 9), os.Rename(file, filepath.Join(filepath.Dir(file), "x.journal")))
		},
		"of a name like another": func(file string) error { return errors.Join(os.Truncate(file, 9), os.Rename(file, file+".aside")) },
	} {
		t.Run(name, func(t *testing.T) {
			dir, file := written(t, StateFrozen, StateCommitted)
			if err := spoil(file); err != nil {
				t.Fatal(err)
			}
			wantGuards(t, dir, true)
		})
	}
}

func TestGuardOfAForeignFileWithLinesOfAJobIsForThatJobOnly(t *testing.T) {
	dir, file := written(t, StateFrozen, StateCommitted)
	if err := os.Rename(file, file+"~"); err != nil {
		t.Fatal(err)
	}
	wantGuards(t, dir, false)
}

func TestSetAsideTakesADamagedFileAndAnswersNothingOfItsMove(t *testing.T) {
	dir, file := written(t, StateFrozen, StateCommitted)
	if err := os.Truncate(file, 20); err != nil {
		t.Fatal(err)
	}
	stray := filepath.Join(dir, "stray")
	if err := os.WriteFile(stray, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	j := journal(t, dir)
	for _, name := range []string{"../x", string(NewMoveID()), ""} {
		if _, err := j.SetAside(name); err == nil {
			t.Errorf("%q is set aside", name)
		}
	}
	for name, was := range map[string]string{string(goldenMove): file, "stray": stray} {
		path, err := j.SetAside(name)
		if err != nil || !strings.HasPrefix(path, was+asideMark) {
			t.Fatalf("%s: %s, %v", name, path, err)
		}
		if _, err := os.Stat(path); err != nil {
			t.Error(err)
		}
		if _, err := os.Stat(was); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s is still there: %v", was, err)
		}
	}
	for range 2 { // the next agent knows it, too
		if err := j.Guard("jabcdefgh27", time.Time{}); err != nil {
			t.Errorf("guarded: %v", err)
		}
		if bad := j.Damaged(); len(bad) != 0 {
			t.Errorf("damaged: %v", bad)
		}
		if s, err := j.Answer(goldenMove, "b"); !errors.Is(err, ErrDamaged) || errors.Is(err, ErrUnknownMove) {
			t.Errorf("the other node is told %q, %v", s, err)
		}
		if err := j.Append(sample(StateFrozen)[0]); err == nil {
			t.Error("the move begins anew")
		}
		if err := j.Close(); err != nil {
			t.Fatal(err)
		}
		j = journal(t, dir)
	}
}

func TestSetAsideRefusesAWholeMove(t *testing.T) {
	dir, _ := written(t, StateFrozen)
	if _, err := journal(t, dir).SetAside(string(goldenMove)); err == nil {
		t.Error("set aside")
	}
}

func TestJournalGoesOnWithATornLineThatCannotBeCutOff(t *testing.T) {
	dir, file := written(t, StateFrozen, StateCommitted)
	whole, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, whole[:len(whole)-20], 0o600); err != nil {
		t.Fatal(err)
	}
	j, err := openJournal(dir, &diskFaults{disk: realDisk{}, replaces: 2})
	if err != nil {
		t.Fatal(err)
	}
	defer j.Close()
	if _, err := j.Get(goldenMove); !errors.Is(err, ErrUnsure) {
		t.Errorf("%v", err)
	}
	if r, err := j.Get(goldenMove); err != nil || r.State != StateFrozen {
		t.Errorf("%+v, %v", r, err)
	}
}
