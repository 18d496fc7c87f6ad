package preflight

import (
	"context"
	"fmt"

	"github.com/migrate-hpc/migrate/criu"
)

// probeCRIU asks CRIU for its version, which shows that it starts, and judges
// it. The version is "" if there is none.
func probeCRIU(ctx context.Context, r *report, c *criu.Client, kernel string) (string, error) {
	if c == nil || c.Path() == "" {
		judgeNoCRIU(r)
		return "", nil
	}
	v, err := c.Version(ctx)
	if ctx.Err() != nil {
		return "", context.Cause(ctx)
	}
	if err != nil {
		r.add(CRIUMissing, "run scripts/setup (`make setup`) on this node; `"+c.Path()+" check` tells more", "CRIU does not start on this node: %v", err)
		return "", nil
	}
	judgeFloor(r, v, kernel)
	return v.String(), nil
}

func judgeNoCRIU(r *report) {
	r.add(CRIUMissing, "run scripts/setup (`make setup`) on this node, then restart its agent", "this node has no CRIU, so that jobs can neither leave nor arrive")
}

func judgeFloor(r *report, v criu.Version, kernel string) {
	if floor, reason := criu.Floor(kernel); !v.AtLeast(floor) {
		r.add(CRIUTooOld, "run scripts/setup (`make setup`) on this node, which installs a newer CRIU, then restart its agent",
			"CRIU %s is too old for kernel %s, which needs %s: %s", v, kernel, floor, reason)
	}
}

func parseVersion(s string) criu.Version {
	var v criu.Version
	_, _ = fmt.Sscanf(s, "%d.%d.%d", &v.Major, &v.Minor, &v.Sub) // what is left out is 0
	return v
}
