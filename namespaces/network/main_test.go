package network

import (
	"testing"
	"time"

	"github.com/migrate-hpc/migrate/testenv"
)

func eventually(t testing.TB, what string, is func() bool) {
	t.Helper()
	for end := time.Now().Add(testenv.Patience); !is(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not within %v: %s", testenv.Patience, what)
		}
	}
}
