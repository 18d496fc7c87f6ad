package node

import (
	"encoding/json"
	"os"
	"reflect"
	"testing"

	"github.com/migrate-hpc/migrate/handoff"
	"github.com/migrate-hpc/migrate/osthread"
)

// The journals of a form of store are kept where the form is.
const journals = "../../store/directory/testdata/journal-1/"

func TestTheGoldenJournalsTellOfTheirCheckpoints(t *testing.T) {
	for file, want := range map[string]Saving{
		"checkpoint.json": {LeaveRunning: true, User: osthread.User{UID: 1000, GID: 1001, Groups: []uint32{7, 9}}},
		"restore.json":    {},
	} {
		extra, err := os.ReadFile(journals + file)
		if err != nil {
			t.Fatal(err)
		}
		got, err := SavingOf(handoff.Record{Extra: extra})
		want.Checkpoint.Name, want.Checkpoint.Form = "/scratch/ada/saved", extra
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s: got %+v, %v, want %+v", file, got, err, want)
		}
		again, err := got.Extra()
		if err != nil || !reflect.DeepEqual(members(t, again), members(t, extra)) {
			t.Errorf("%s: written again it is %s, %v", file, again, err)
		}
	}
}

func TestAJournalHoldsWhatTheFormAndTheAgentKnow(t *testing.T) {
	s := Saving{User: osthread.User{UID: 7}}
	s.Checkpoint.Name, s.Checkpoint.Form = "/saved", json.RawMessage(`{"ino":9007199254740993,"uid":5}`)
	extra, err := s.Extra()
	want := `{"dir":"/saved","gid":0,"ino":9007199254740993,"uid":7}`
	if err != nil || string(extra) != want {
		t.Errorf("got %s, %v, want %s", extra, err, want)
	}
}

func TestAJournalThatIsNoneOfACheckpointIsAnError(t *testing.T) {
	if s, err := SavingOf(handoff.Record{Extra: json.RawMessage(`{"dir":1}`)}); err == nil {
		t.Errorf("got %+v", s)
	}
}

func members(t *testing.T, object []byte) (m map[string]json.RawMessage) {
	t.Helper()
	if err := json.Unmarshal(object, &m); err != nil {
		t.Fatal(err)
	}
	return m
}
