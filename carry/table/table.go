package table

import (
	"github.com/migrate-hpc/migrate/carry"
	"github.com/migrate-hpc/migrate/carry/calls"
	"github.com/migrate-hpc/migrate/carry/descriptors"
	"github.com/migrate-hpc/migrate/carry/filelocks"
	"github.com/migrate-hpc/migrate/carry/privatetmpfs"
	"github.com/migrate-hpc/migrate/carry/queues"
	"github.com/migrate-hpc/migrate/carry/segments"
	"github.com/migrate-hpc/migrate/carry/socketnames"
	"github.com/migrate-hpc/migrate/carry/socketoptions"
	"github.com/migrate-hpc/migrate/carry/threads"
	"github.com/migrate-hpc/migrate/carry/unread"
	"github.com/migrate-hpc/migrate/mqueue"
	"github.com/migrate-hpc/migrate/tmpfs"
)

// Carried are all resources that a move carries and CRIU does not.
var Carried = carry.Table{
	{Name: "POSIX message queues", Mounts: []string{mqueue.Dir}, Magic: mqueue.Magic,
		Check: queues.Check, Source: queues.NewSource, Restorer: queues.NewRestorer},
	{Name: "private tmpfs", Mounts: tmpfs.Dirs(),
		Source: privatetmpfs.NewSource, Receiver: privatetmpfs.NewReceiver},
	{Name: "shared memory without a path", Source: segments.NewSource},
	{Name: "room for descriptors", Check: descriptors.Check, Source: descriptors.NewSource},
	{Name: "interrupted system calls", Source: calls.NewSource, Restorer: calls.NewRestorer},
	{Name: "names of Unix sockets", Source: socketnames.NewSource, Restorer: socketnames.NewRestorer},
	{Name: "exclusive locks on files", Restorer: filelocks.NewRestorer},
	{Name: "attributes of threads", Source: threads.NewSource, Restorer: threads.NewRestorer},
	{Name: "what was not read yet", Passing: unread.Find},
	{Name: "options of sockets", Source: socketoptions.NewSource, Restorer: socketoptions.NewRestorer},
}
