package handoff

import (
	"testing"
	"testing/synctest"
	"time"
)

func TestJournalOfAKilledAgentIsOpenedWhenItsLastProcessHasLetGo(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		first, err := OpenJournal(dir)
		if err != nil {
			t.Fatal(err)
		}
		time.AfterFunc(lockTime/2, func() { _ = first.Close() })
		second, err := OpenJournal(dir)
		if err != nil {
			t.Fatal(err)
		}
		if err := second.Close(); err != nil {
			t.Error(err)
		}
	})
}
