// Command tamper changes one thing in a checkpoint and signs it anew, as a holder of the key
// of a node could: tamper CHECKPOINT CERTIFICATES FIELD [forge].
package main

import (
	"fmt"
	"math/rand/v2"
	"os"

	"github.com/migrate-hpc/migrate/e2e/tamper"
)

func main() {
	if err := tamper.Checkpoint(os.Args[1], os.Args[2], change); err != nil {
		fmt.Fprintln(os.Stderr, "tamper:", err)
		os.Exit(1)
	}
}

func change(images string) error {
	all, err := tamper.Mutations(images, rand.New(rand.NewPCG(5, 6)))
	if err != nil {
		return err
	}
	for _, m := range tamper.OneOfEach(all) {
		if m.Field != os.Args[3] {
			continue
		}
		if err := m.Apply(images); err != nil || len(os.Args) < 5 {
			return err
		}
		return tamper.Forge(images) // the record lies, too
	}
	return fmt.Errorf("no change of %q", os.Args[3])
}
