package descriptors

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/migrate-hpc/migrate/carry"
	"github.com/migrate-hpc/migrate/criu/image"
	"github.com/migrate-hpc/migrate/durable"
	"github.com/migrate-hpc/migrate/pidmap"
	"github.com/migrate-hpc/migrate/procfs"
)

// spare is how many descriptors CRIU may need at a time in a process: more than the handful that it
// opens.
const spare = 16

// raised is a process whose limit is higher than it was.
type raised struct {
	PID   int    `json:"pid"` // on this node
	Began uint64 `json:"began"`
	InJob int    `json:"in_job"`
	Soft  uint64 `json:"soft"`
	Hard  uint64 `json:"hard"`
}

// limitOf is the limit of a process, and what it must be for CRIU; the same if there is room.
func limitOf(pid int) (is, needs unix.Rlimit, err error) {
	if err = unix.Prlimit(pid, unix.RLIMIT_NOFILE, nil, &is); err != nil {
		return is, is, fmt.Errorf("limit of descriptors of process %d: %w", pid, err)
	}
	dir := fmt.Sprintf("/proc/%d/fd", pid)
	st, err := os.Stat(dir)
	if err != nil {
		return is, is, err
	}
	open := uint64(st.Size()) // since Linux 6.2; before, 0
	if open == 0 {
		numbers, err := procfs.Numbers(dir)
		if err != nil {
			return is, is, err
		}
		open = uint64(len(numbers))
	}
	needs = is
	if open+spare > is.Cur { // as many numbers below the limit may be taken
		needs.Cur = max(open, is.Cur) + spare
		needs.Max = max(needs.Cur, is.Max)
	}
	return is, needs, nil
}

// obstacle says that a process has no room.
func obstacle(pid int, limit unix.Rlimit) *carry.Obstacle {
	return &carry.Obstacle{
		Code: "descriptors-full",
		Cause: fmt.Sprintf("process %d has nearly as many descriptors as its limit of %d allows, CRIU needs %d more in it, and this node may not raise the hard limit of %d",
			pid, limit.Cur, spare, limit.Max),
		Remedy: fmt.Sprintf("close some, or start the job with more: `migrate run --ulimit nofile=%d:%d`; an agent with CAP_SYS_RESOURCE raises it by itself", 2*limit.Max, 2*limit.Max),
	}
}

// Check finds a process of a running job that has no room, and that cannot be given any.
func Check(init int) (*carry.Obstacle, error) {
	if may, err := mayRaise(); err != nil || may {
		return nil, err
	}
	pids, err := pidmap.Members(init)
	if err != nil {
		return nil, err
	}
	for _, pid := range pids {
		is, needs, err := limitOf(pid)
		if err == nil && needs.Max > is.Max { // with an error it has ended, or its limits are withheld, which is another finding
			return obstacle(pid, is), nil
		}
	}
	return nil, nil
}

// mayRaise tells whether we may raise hard limits.
func mayRaise() (bool, error) {
	status, err := procfs.ReadStatus(os.Getpid())
	if err != nil {
		return false, err
	}
	caps, err := strconv.ParseUint(status["CapEff"], 16, 64)
	return caps&(1<<unix.CAP_SYS_RESOURCE) != 0, err
}

type source struct {
	carry.NoSource
	job carry.Job
}

// NewSource is the half of the node that a job leaves.
func NewSource(j carry.Job) carry.Source { return &source{job: j} }

// Freeze raises limits. It notes first what they were: a later agent may have to set them back.
func (s *source) Freeze(context.Context) (external []string, err error) {
	entries, err := s.job.Processes()
	if err != nil {
		return nil, err
	}
	var list []raised
	higher := map[int]unix.Rlimit{}
	for _, e := range entries {
		is, needs, err := limitOf(e.Host)
		if err != nil || is == needs { // with an error it has ended, or CRIU says the same
			continue
		}
		list = append(list, raised{PID: e.Host, Began: e.Began, InJob: e.Job, Soft: is.Cur, Hard: is.Max})
		higher[e.Host] = needs
	}
	if len(list) == 0 {
		return nil, nil
	}
	data, err := json.Marshal(list)
	if err != nil {
		return nil, err
	}
	if err := durable.WriteFile(s.file(), data, 0o600); err != nil {
		return nil, err
	}
	for _, r := range list {
		limit := higher[r.PID]
		err := unix.Prlimit(r.PID, unix.RLIMIT_NOFILE, &limit, nil)
		if errors.Is(err, unix.EPERM) {
			return nil, obstacle(r.PID, unix.Rlimit{Cur: r.Soft, Max: r.Hard})
		}
		if err != nil && !errors.Is(err, unix.ESRCH) {
			return nil, fmt.Errorf("raise the limit of descriptors of process %d: %w", r.PID, err)
		}
	}
	return nil, nil
}

func (s *source) file() string { return filepath.Join(s.job.Dir, "descriptors.json") }

func (s *source) read() (list []raised, err error) {
	data, err := os.ReadFile(s.file())
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err == nil {
		err = json.Unmarshal(data, &list)
	}
	return list, err
}

// FixImages writes the job's own limits into the images.
func (s *source) FixImages() error {
	list, err := s.read()
	if err != nil {
		return err
	}
	own := map[int]image.Limit{}
	for _, r := range list {
		own[r.InJob] = image.Limit{Soft: r.Soft, Hard: r.Hard}
	}
	return image.SetDescriptorLimits(s.job.Images, own)
}

// Thaw sets the limits back.
func (s *source) Thaw() error {
	list, err := s.read()
	if err != nil || len(list) == 0 {
		return err
	}
	var errs []error
	for _, r := range list {
		if began, err := pidmap.Began(r.PID); err != nil || began != r.Began {
			continue // it has ended
		}
		was := unix.Rlimit{Cur: r.Soft, Max: r.Hard}
		if err := unix.Prlimit(r.PID, unix.RLIMIT_NOFILE, &was, nil); err != nil && !errors.Is(err, unix.ESRCH) {
			errs = append(errs, fmt.Errorf("set back the limit of descriptors of process %d: %w", r.PID, err))
		}
	}
	return errors.Join(append(errs, os.Remove(s.file()))...)
}
