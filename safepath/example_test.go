package safepath_test

import (
	"fmt"

	"github.com/migrate-hpc/migrate/safepath"
)

// What a user owns, or others may write to, is no place for an agent's files.
func ExampleError() {
	for _, e := range []*safepath.Error{
		{Path: "/srv/migrate", UID: 1000},
		{Path: "/srv", Mode: 0o777, Remedy: "chmod go-w /srv"},
	} {
		fmt.Printf("%v (%q)\n", e, e.Remedy)
	}
	// Output:
	// /srv/migrate belongs to user 1000, who decides what is there ("")
	// /srv can be written to by others than root (mode 0777), who may have put anything there ("chmod go-w /srv")
}
