package netpolicy_test

import (
	"fmt"

	"github.com/migrate-hpc/migrate/job"
	"github.com/migrate-hpc/migrate/netpolicy"
)

// The operator of a node gives all users one bridge, and of it a range of addresses.
func ExamplePolicy_Judge() {
	policy, err := netpolicy.Parse([]string{"br0=10.0.0.10-10.0.0.99"})
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, address := range []string{"10.0.0.17/24", "10.0.0.1/24"} {
		spec := job.Spec{UID: 1000, GID: 1000, Network: job.Network{Mode: "br0", Address: address}}
		if denied := policy.Judge(spec); denied != nil {
			fmt.Println("no:", denied.Cause)
		} else {
			fmt.Println("yes:", address)
		}
	}
	// Output:
	// yes: 10.0.0.17/24
	// no: user 1000 may have addresses of 10.0.0.10-10.0.0.99 on bridge br0 of this node, not 10.0.0.1
}
