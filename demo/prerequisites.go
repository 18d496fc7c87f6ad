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

// roomFactor is how many times the job's memory must be free: for the frozen
// job, the restored one, and the pages in between.
const roomFactor = 3

// prerequisites checks what a demo needs, and says what to type if something is missing.
// It returns the version of the CRIU that it found.
func prerequisites(ctx context.Context, o Options) (criu.Version, error) {
	var none criu.Version
	if os.Geteuid() != 0 {
		return none, missing("sudo migrate demo", "the demo makes namespaces and cgroups, which needs root")
	}
	if free, err := tmpfs.Available(); err != nil {
		return none, err
	} else if free < roomFactor*o.Memory {
		return none, missing(fmt.Sprintf("migrate demo --memory %dM", free/roomFactor>>20),
			"the demo needs %d MiB of free memory and this machine has %d", roomFactor*o.Memory>>20, free>>20)
	}
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return none, err
	}
	path, err := criu.Find("")
	if err != nil {
		return none, missing("make setup", "%v", err)
	}
	v, err := criu.New(path, "", slog.New(slog.DiscardHandler)).Version(ctx)
	if err != nil {
		return none, missing("make setup", "%s does not work: %v", path, err)
	}
	if floor, why := criu.Floor(unix.ByteSliceToString(u.Release[:])); !v.AtLeast(floor) {
		return none, missing("make setup", "%s is version %v, and this kernel needs %v: %s", path, v, floor, why)
	}
	return v, nil
}

func missing(hint, format string, args ...any) error {
	return &api.Error{Code: api.CodeFailed, Message: fmt.Sprintf(format, args...), Hint: hint}
}
