package handoff

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/migrate-hpc/migrate/durable"
	"github.com/migrate-hpc/migrate/testenv"
)

const goldenMove = MoveID("m0123456789abcdef")

func sample(states ...State) []Record {
	role := RoleSource
	if states[0] != StateCommitted && slices.Contains(recorded[RoleTarget], states[0]) {
		role = RoleTarget
	}
	var records []Record
	for i, s := range states {
		records = append(records, Record{Move: goldenMove, Kind: KindMove, Job: "jabcdefgh27", Role: role, Peer: "b", PeerAddr: "b:7070", Epoch: 3,
			State: s, At: time.Date(2026, 3, 4, 5, 6, 7, i, time.UTC), BootID: "8b0d", Extra: []byte(`{"post_copy":true}`)})
	}
	return records
}

func journal(t *testing.T, dir string) *Journal {
	t.Helper()
	j, err := OpenJournal(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { j.Close() })
	return j
}

func written(t *testing.T, states ...State) (dir, file string) {
	t.Helper()
	dir = testenv.MemoryDir(t)
	j := journal(t, dir)
	for _, r := range sample(states...) {
		if err := j.Append(r); err != nil {
			t.Fatal(err)
		}
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	return dir, j.path(goldenMove)
}

func TestJournalFormat1DoesNotChange(t *testing.T) {
	var data []byte
	records := sample(StateFrozen, StateCommitted, StateReleased)
	records[1].Note = "a <note> & more"
	for _, r := range records {
		line, err := encodeLine(r)
		if err != nil {
			t.Fatal(err)
		}
		data = append(append(data, line...), '\n')
	}
	testenv.Golden(t, "journal-1", data)
	if _, _, torn, err := decodeFile(goldenMove, testenv.ReadGolden(t, "journal-1")); torn || err != nil {
		t.Errorf("format 1 is not read: torn %v, %v", torn, err)
	}
}

func TestJournalReadsRecordsFromBeforeTheyHadAKind(t *testing.T) {
	for name, want := range map[string]Record{
		"move-source": {Kind: KindMove, Role: RoleSource, Peer: "b", State: StateCommitted},
		"move-target": {Kind: KindMove, Role: RoleTarget, Peer: "a", State: StatePrepared},
		"checkpoint":  {Kind: KindCheckpoint, Role: RoleSource, Peer: "a", State: StateCommitted},
		"restore":     {Kind: KindRestore, Role: RoleTarget, Peer: "a", State: StatePrepared},
		"extra":       {Kind: KindCheckpoint, Role: RoleSource, Peer: "b", State: StateReleased},
	} {
		data := testenv.ReadGolden(t, "without-kind/"+name)
		dir := testenv.MemoryDir(t)
		if err := os.WriteFile(filepath.Join(dir, string(goldenMove)+journalSuffix), data, 0o600); err != nil {
			t.Fatal(err)
		}
		j := journal(t, dir)
		got, err := j.Get(goldenMove)
		if err != nil || got.Kind != want.Kind || got.Role != want.Role || got.Peer != want.Peer || got.State != want.State {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
		if got.State.Finished() {
			continue
		}
		got.State = map[Role]State{RoleSource: StateReleased, RoleTarget: StateDropped}[got.Role]
		if err := j.Append(got); err != nil {
			t.Errorf("%s: a move that an earlier version began cannot be ended: %v", name, err)
		}
		if history, err := j.History(goldenMove); err != nil || len(history) != 3 || history[0].Kind != want.Kind || history[2].Kind != want.Kind {
			t.Errorf("%s: %+v, %v", name, history, err)
		}
	}
}

func TestJournalRemembersTheLastRecordOfEachMove(t *testing.T) {
	dir, _ := written(t, StateFrozen, StateCommitted)
	j := journal(t, dir)
	r, err := j.Get(goldenMove)
	if err != nil || r.State != StateCommitted || string(r.Extra) != `{"post_copy":true}` {
		t.Errorf("%+v, %v", r, err)
	}
	history, err := j.History(goldenMove)
	if err != nil || len(history) != 2 || history[0].State != StateFrozen {
		t.Errorf("history is %+v, %v", history, err)
	}
}

func TestJournalIgnoresALastLineCutShortUnlessItIsWhole(t *testing.T) {
	dir, file := written(t, StateFrozen, StateCommitted)
	whole, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	first := bytes.IndexByte(whole, '\n') + 1
	for size := first; size < len(whole); size++ {
		if err := os.WriteFile(file, whole[:size], 0o600); err != nil {
			t.Fatal(err)
		}
		want := StateFrozen
		if size == len(whole)-1 { // only the newline is missing
			want = StateCommitted
		}
		j := journal(t, dir)
		if r, err := j.Get(goldenMove); err != nil || r.State != want {
			t.Fatalf("cut at %d of %d: %s, %v, want %s", size, len(whole), r.State, err, want)
		}
		if err := j.Append(sample(StateAborting)[0]); err != nil {
			t.Fatal(err)
		}
		if err := j.Close(); err != nil {
			t.Fatal(err)
		}
		if again, err := journal2(dir); err != nil || again != StateAborting {
			t.Fatalf("cut at %d, then appended: %s, %v", size, again, err)
		}
	}
}

func journal2(dir string) (State, error) {
	j, err := OpenJournal(dir)
	if err != nil {
		return "", err
	}
	r, err := j.Get(goldenMove)
	return r.State, errors.Join(err, j.Close())
}

func TestJournalTakesAnyFlippedBitOfAWholeLineForDamage(t *testing.T) {
	_, file := written(t, StateFrozen, StateCommitted)
	whole, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	want, _, _, err := decodeFile(goldenMove, whole)
	if err != nil {
		t.Fatal(err)
	}
	for i := range whole {
		for bit := range 8 {
			data := bytes.Clone(whole)
			data[i] ^= 1 << bit
			got, _, _, err := decodeFile(goldenMove, data)
			if !errors.Is(err, ErrDamaged) && (len(got) != len(want) || got[len(got)-1].State != StateCommitted) {
				t.Errorf("byte %d, bit %d: %d records, %v", i, bit, len(got), err)
			}
		}
	}
}

func TestJournalDamageToOneMoveIsReportedAndDoesNotHideTheOthers(t *testing.T) {
	dir, file := written(t, StateFrozen, StateCommitted)
	j := journal(t, dir)
	other := sample(StateReceiving)[0]
	other.Move, other.Job = NewMoveID(), "jother22222"
	if err := j.Append(other); err != nil {
		t.Fatal(err)
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	data[len(data)-10] ^= 1
	if err := os.WriteFile(file, data, 0o600); err != nil {
		t.Fatal(err)
	}
	j = journal(t, dir)
	records, err := j.Unfinished()
	if len(records) != 1 || records[0].Move != other.Move || !errors.Is(err, ErrDamaged) || !strings.Contains(err.Error(), string(goldenMove)) {
		t.Errorf("%v, %v", records, err)
	}
	if err := j.Append(sample(StateReleased)[0]); !errors.Is(err, ErrDamaged) {
		t.Errorf("append to it: %v", err)
	}
	next := sample(StateFrozen)[0]
	next.Move = NewMoveID()
	if err := j.Append(next); !errors.Is(err, ErrGuarded) {
		t.Errorf("a new move of its job: %v", err)
	}
	next.Move, next.Job = NewMoveID(), "jthird22222"
	if err := j.Append(next); err != nil {
		t.Errorf("a move of a job that the damaged one is not about: %v", err)
	}
	if err := j.Remove(goldenMove); !errors.Is(err, ErrUnfinished) {
		t.Errorf("remove it: %v", err)
	}
}

func TestJournalIsOfOneAgentOnly(t *testing.T) {
	dir := t.TempDir()
	j := journal(t, dir)
	if _, err := OpenJournal(dir); err == nil || !strings.Contains(err.Error(), "another agent") {
		t.Errorf("%v", err)
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	journal(t, dir)
}

func TestJournalAnswersThePeerOfTheMoveOnly(t *testing.T) {
	dir, _ := written(t, StateFrozen, StateCommitted)
	j := journal(t, dir)
	if s, err := j.Answer(goldenMove, "b"); s != StateCommitted || err != nil {
		t.Errorf("%s, %v", s, err)
	}
	for _, c := range []struct {
		move MoveID
		peer string
	}{{goldenMove, "c"}, {NewMoveID(), "b"}, {"../../x", "b"}} {
		if s, err := j.Answer(c.move, c.peer); s != "" || !errors.Is(err, ErrUnknownMove) {
			t.Errorf("%v: %q, %v", c, s, err)
		}
	}
}

func TestJournalWritesNothingThatIsNoRecord(t *testing.T) {
	j := journal(t, t.TempDir())
	for name, spoil := range map[string]func(*Record){
		"move":        func(r *Record) { r.Move = "../x" },
		"state":       func(r *Record) { r.State = StatePrepared },
		"role":        func(r *Record) { r.Role = "owner" },
		"no kind":     func(r *Record) { r.Kind = "" },
		"kind":        func(r *Record) { r.Kind = "copy" },
		"role's kind": func(r *Record) { r.Kind = KindRestore },
		"job":         func(r *Record) { r.Job = "" },
		"peer":        func(r *Record) { r.Peer = strings.Repeat("b", maxName+1) },
		"epoch":       func(r *Record) { r.Epoch = 0 },
		"boot":        func(r *Record) { r.BootID = "" },
		"not UTF-8":   func(r *Record) { r.Job = "\xff" },
		"large extra": func(r *Record) { r.Extra = []byte(`"` + strings.Repeat("x", MaxRecord) + `"`) },
		"bad extra":   func(r *Record) { r.Extra = []byte(`{`) },
	} {
		r := sample(StateFrozen)[0]
		spoil(&r)
		if err := j.Append(r); err == nil {
			t.Errorf("%s: written", name)
		}
	}
	if records, err := j.List(); len(records) != 0 || err != nil {
		t.Errorf("%v, %v", records, err)
	}
}

func TestJournalKeepsJobPeerAndEpochOfAMove(t *testing.T) {
	dir, _ := written(t, StateFrozen)
	j := journal(t, dir)
	r := sample(StateCommitted)[0]
	r.Epoch++
	if err := j.Append(r); err == nil {
		t.Error("written")
	}
}

func TestJournalPruneRemovesOldFinishedMovesOnly(t *testing.T) {
	dir, _ := written(t, StateFrozen, StateAborting, StateAborted)
	j := journal(t, dir)
	other := sample(StateFrozen)[0]
	other.Move = NewMoveID()
	if err := j.Append(other); err != nil {
		t.Fatal(err)
	}
	if err := j.Prune(time.Date(2025, 1, 1, 0, 0, 0, 0, time.UTC)); err != nil {
		t.Fatal(err)
	}
	if _, err := j.Get(goldenMove); err != nil {
		t.Errorf("a young one is gone: %v", err)
	}
	if err := j.Prune(time.Now().Add(time.Hour)); err != nil {
		t.Fatal(err)
	}
	if records, err := j.List(); len(records) != 1 || records[0].Move != other.Move || err != nil {
		t.Errorf("%v, %v", records, err)
	}
}

func TestJournalRemovesLeftoversOfACrash(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, durable.TempPrefix+"1"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	journal(t, dir)
	if names, err := os.ReadDir(dir); err != nil || len(names) != 0 {
		t.Errorf("%v, %v", names, err)
	}
}
