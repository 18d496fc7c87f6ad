package directory

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/migrate-hpc/migrate/store"
	"github.com/migrate-hpc/migrate/store/storetest"
)

func TestStoreOfDirectories(t *testing.T) {
	form := storetest.Form{Store: Store{}, User: operator, NoName: "relative", Change: change1}
	form.Name = func(t *testing.T) string { return filepath.Join(t.TempDir(), "saved") }
	t.Run("root", func(t *testing.T) { storetest.TestStore(t, form) })
	t.Run("user", func(t *testing.T) {
		form := form
		form.User = owner
		form.Name = func(t *testing.T) string { return filepath.Join(ownersDir(t), "saved") }
		storetest.TestStore(t, form)
	})
}

// change1 changes the first byte of the first lane.
func change1(t *testing.T, name string) {
	t.Helper()
	f, err := os.OpenFile(filepath.Join(name, store.LaneNames()[0]), os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteAt([]byte{'X'}, 0); err != nil {
		t.Fatal(err)
	}
}

// What an agent has written into its journal is read for as long as such a journal may be there.
func TestTheGoldenJournalTellsWhichDirectoryItWas(t *testing.T) {
	extra, err := os.ReadFile("testdata/journal-1/checkpoint.json")
	if err != nil {
		t.Fatal(err)
	}
	d, err := found(store.Ref{Name: "/scratch/ada/saved", Form: extra}, "m1", owner)
	if err != nil || d.id != (inode{2049, 9007199254740993}) {
		t.Errorf("got %+v, %v", d, err)
	}
}
