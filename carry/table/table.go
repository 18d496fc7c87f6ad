// Package table has the carried resources, one a row.
package table

import (
	"github.com/migrate-hpc/migrate/carry"
	"github.com/migrate-hpc/migrate/carry/queues"
	"github.com/migrate-hpc/migrate/mqueue"
)

// Carried are all resources that a move carries and CRIU does not.
var Carried = carry.Table{
	{Name: "POSIX message queues", Mounts: []string{mqueue.Dir}, Magic: mqueue.Magic,
		Check: queues.Check, Source: queues.NewSource, Restorer: queues.NewRestorer},
}
