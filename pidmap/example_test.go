package pidmap_test

import (
	"fmt"

	"github.com/migrate-hpc/migrate/pidmap"
)

// A `migrate exec` has brought a shell into the job, which has started ps.
func ExampleVisitors() {
	running := []pidmap.Thread{{}}
	job := []pidmap.Entry{
		{Host: 4711, Job: 1, PPid: 4700, Comm: "solve", State: 'S', Threads: running},
		{Host: 4712, Job: 2, PPid: 4711, Comm: "solve", State: 'R', Threads: running},
		{Host: 5003, Job: 3, PPid: 4100, Comm: "sh", State: 'S', Threads: running},
		{Host: 5004, Job: 4, PPid: 5003, Comm: "ps", State: 'R', Threads: running},
	}
	for _, v := range pidmap.Visitors(job) {
		fmt.Println(v.Comm, v.Host, v.Job)
	}
	// Output: sh 5003 3
}
