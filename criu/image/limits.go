package image

import (
	"errors"
	"fmt"

	criu_core "github.com/checkpoint-restore/go-criu/v7/crit/images/criu-core"
	"golang.org/x/sys/unix"

	"github.com/migrate-hpc/migrate/stream"
)

// Limit is a resource limit of a process.
type Limit struct{ Soft, Hard uint64 }

// SetDescriptorLimits sets the limits of descriptors (RLIMIT_NOFILE) of processes, by their pids in the
// job.
func SetDescriptorLimits(dir string, limits map[int]Limit) error {
	if len(limits) == 0 {
		return nil
	}
	var errs []error
	err := eachThread(dir, func(_ stream.VPID, tid uint32, core *criu_core.CoreEntry) {
		limit, ok := limits[int(tid)]
		if !ok || core.GetTc() == nil { // of a thread that leads no process
			return
		}
		all := core.GetTc().GetRlimits().GetRlimits()
		if len(all) <= unix.RLIMIT_NOFILE {
			errs = append(errs, fmt.Errorf("core-%d.img: %w: it has %d limits", tid, ErrFormat, len(all)))
			return
		}
		all[unix.RLIMIT_NOFILE].Cur, all[unix.RLIMIT_NOFILE].Max = &limit.Soft, &limit.Hard
		errs = append(errs, writeCore(corePath(dir, tid), core))
	})
	return errors.Join(append(errs, err)...)
}
