package handoff

import (
	"errors"
	"os"
	"testing"
)

// diskFaults fails the named writes; what an append writes before it fails is half a line.
type diskFaults struct {
	disk
	appends, replaces int // fail this many
}

func (d *diskFaults) Append(path string, line []byte) error {
	if d.appends == 0 {
		return d.disk.Append(path, line)
	}
	d.appends--
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND|os.O_CREATE, journalMode)
	if err == nil {
		_, err = f.Write(line[:len(line)/2])
		err = errors.Join(err, f.Close())
	}
	return errors.Join(errors.New("no space left on device"), err)
}

func (d *diskFaults) Replace(path string, data []byte) error {
	if d.replaces == 0 {
		return d.disk.Replace(path, data)
	}
	d.replaces--
	return errors.New("no space left on device")
}

func TestJournalAppendThatFailsLeavesTheRecordAbsentOrUnsure(t *testing.T) {
	for _, c := range []struct {
		name     string
		faults   diskFaults
		unsure   bool
		lastSure State
	}{
		{"undone", diskFaults{appends: 1}, false, StateFrozen},
		{"not undone", diskFaults{appends: 1, replaces: 2}, true, StateFrozen},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir, _ := written(t, StateFrozen)
			j := journal(t, dir)
			c.faults.disk = j.disk
			j.disk = &c.faults
			err := j.Append(sample(StateCommitted)[0])
			if err == nil || errors.Is(err, ErrUnsure) != c.unsure {
				t.Fatalf("error is %v", err)
			}
			if _, err := j.Answer(goldenMove, "b"); errors.Is(err, ErrUnsure) != c.unsure {
				t.Errorf("answer: %v", err)
			}
			if err := j.Append(sample(StateAborting)[0]); err != nil {
				t.Fatal(err)
			}
			history, err := j.History(goldenMove)
			if err != nil || len(history) != 2 || history[0].State != c.lastSure || history[1].State != StateAborting {
				t.Errorf("%v, %v", history, err)
			}
			if err := j.Close(); err != nil {
				t.Fatal(err)
			}
			if s, err := journal2(dir); s != StateAborting || err != nil {
				t.Errorf("%s, %v", s, err)
			}
		})
	}
}

func TestJournalFileThatWasUnsureIsKnownWhenTheDiskTakesIt(t *testing.T) {
	dir, _ := written(t, StateFrozen)
	j := journal(t, dir)
	j.disk = &diskFaults{disk: j.disk, appends: 1, replaces: 1}
	if err := j.Append(sample(StateCommitted)[0]); !errors.Is(err, ErrUnsure) {
		t.Fatalf("error is %v", err)
	}
	if s, err := j.Answer(goldenMove, "b"); s != StateFrozen || err != nil {
		t.Errorf("the answer is %s, %v", s, err)
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	if s, err := journal2(dir); s != StateFrozen || err != nil {
		t.Errorf("the next agent reads %s, %v", s, err)
	}
}

func TestJournalFirstRecordThatIsUnsureHoldsUpNoOtherMoveForEver(t *testing.T) {
	j := journal(t, t.TempDir())
	j.moves[goldenMove] = &entry{last: sample(StateFrozen)[0], unsure: true} // neither written nor removed
	other := sample(StateFrozen)[0]
	other.Move = NewMoveID()
	if err := j.Append(other); err != nil {
		t.Fatal(err)
	}
	if _, err := j.Get(goldenMove); !errors.Is(err, ErrUnknownMove) {
		t.Errorf("the first one is %v", err)
	}
}

func TestJournalFirstRecordThatFailsLeavesNoMove(t *testing.T) {
	j := journal(t, t.TempDir())
	j.disk = &diskFaults{disk: j.disk, replaces: 1}
	if err := j.Append(sample(StateFrozen)[0]); err == nil || errors.Is(err, ErrUnsure) {
		t.Fatalf("error is %v", err)
	}
	if err := j.Append(sample(StateFrozen)[0]); err != nil {
		t.Error(err)
	}
}
