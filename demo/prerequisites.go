package demo

import (
	"context"
	"fmt"
	"log/slog"
	"os"

	"golang.org/x/sys/unix"

	"github.com/migrate-hpc/migrate/agent/api"
	"github.com/migrate-hpc/migrate/criu"
	"github.com/migrate-hpc/migrate/tmpfs"
)

// roomFactor is how often the job's memory must fit into what is free: the frozen
// job, the one that runs again, and the pages on their way.
const roomFactor = 3

// prerequisites refuses to begin what cannot end well, and says what to type.
// It returns the version of the CRIU that it found.
func prerequisites(ctx context.Context, o Options) (criu.Version, error) {
	var none criu.Version
	if os.Geteuid() != 0 {
		return none, lacking("sudo migrate demo", "the demo makes namespaces and cgroups, which needs root")
	}
	if free, err := tmpfs.Available(); err != nil {
		return none, err
	} else if free < roomFactor*o.Memory {
		return none, lacking(fmt.Sprintf("migrate demo --memory %dM", free/roomFactor>>20),
			"the demo needs %d MiB of free memory and this machine has %d", roomFactor*o.Memory>>20, free>>20)
	}
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return none, err
	}
	path, err := criu.Find("")
	if err != nil {
		return none, lacking("make setup", "%v", err)
	}
	v, err := criu.New(path, "", slog.New(slog.DiscardHandler)).Version(ctx)
	if err != nil {
		return none, lacking("make setup", "%s does not work: %v", path, err)
	}
	if floor, why := criu.Floor(unix.ByteSliceToString(u.Release[:])); !v.AtLeast(floor) {
		return none, lacking("make setup", "%s is version %v, and this kernel needs %v: %s", path, v, floor, why)
	}
	return v, nil
}

func lacking(hint, format string, args ...any) error {
	return &api.Error{Code: api.CodeFailed, Message: fmt.Sprintf(format, args...), Hint: hint}
}
