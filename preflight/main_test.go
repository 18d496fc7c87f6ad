package preflight

import (
	"fmt"
	"os"
	"testing"

	"github.com/migrate-hpc/migrate/namespaces"
)

const roleArg = "preflight-role"

// As the command of a job the test binary plays a role. It opens or maps something, says "ready"
// and keeps it.
func TestMain(m *testing.M) {
	namespaces.Stage()
	if len(os.Args) < 3 || os.Args[1] != roleArg {
		os.Exit(m.Run())
	}
	if err := play(os.Args[2], os.Args[3]); err != nil {
		fmt.Println("cannot", err)
	} else {
		fmt.Println("ready")
	}
	wait := make(chan struct{})
	go func() { select {} }() // so that the runtime sees no deadlock
	<-wait
}
