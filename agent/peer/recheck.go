package peer

import (
	"context"
	"fmt"
	"time"

	"github.com/migrate-hpc/migrate/handoff"
	"github.com/migrate-hpc/migrate/preflight"
	"github.com/migrate-hpc/migrate/transport"
)

// FeatureRecheck says that the target answers recheck.
const FeatureRecheck = "recheck"

// Recheck asks the target about more files of a job that it has accepted.
type Recheck struct {
	Move  handoff.MoveID   `json:"move"`
	Files []preflight.File `json:"files"`
}

// AskFiles fails if the target refuses the job because of these files. It uses a connection of its
// own: who waits may give up, and an answer would be left on the session of the move.
func (c *Client) AskFiles(ctx context.Context, files []preflight.File) error {
	ctx, cancel := context.WithTimeoutCause(ctx, filesTime, fmt.Errorf("%s has not said within %v whether it has the job's files", c.Node, filesTime))
	defer cancel()
	s, err := transport.Dial(ctx, c.Addr, c.Node, c.Local.Identity, 0)
	if err != nil {
		return err
	}
	defer s.Close()
	return Ask(ctx, s, SayRecheck, Recheck{Move: c.Move, Files: preflight.Bounded(files)}, SayAccept, nil)
}

// filesTime is how long a target may look for files: a file server may be slow.
const filesTime = 10 * time.Second
