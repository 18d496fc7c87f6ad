package criu

import (
	"context"
	"errors"
	"fmt"

	"github.com/checkpoint-restore/go-criu/v7/rpc"
)

// Version is a version of CRIU.
type Version struct{ Major, Minor, Sub int }

func (v Version) String() string {
	if v.Sub == 0 {
		return fmt.Sprintf("%d.%d", v.Major, v.Minor)
	}
	return fmt.Sprintf("%d.%d.%d", v.Major, v.Minor, v.Sub)
}

// AtLeast says whether v is floor or newer.
func (v Version) AtLeast(floor Version) bool {
	if v.Major != floor.Major {
		return v.Major > floor.Major
	}
	if v.Minor != floor.Minor {
		return v.Minor > floor.Minor
	}
	return v.Sub >= floor.Sub
}

// Floor is the oldest version of CRIU that works on a kernel, by its release
// ("6.12.57-amd64"), and why. A release that is not understood gets the lower
// floor.
func Floor(kernelRelease string) (floor Version, reason string) {
	var major, minor int
	_, err := fmt.Sscanf(kernelRelease, "%d.%d", &major, &minor)
	if err == nil && (major > 6 || major == 6 && minor >= 16) {
		return Version{4, 2, 0}, "from kernel 6.16 on, older versions of CRIU cannot dump INET sockets (SO_PASSCRED is refused)"
	}
	return Version{4, 1, 0}, "older versions of CRIU are not tested, and fail on newer kernels"
}

// Version asks CRIU for its version.
func (c *Client) Version(ctx context.Context) (Version, error) {
	resp, err := c.Do(ctx, &rpc.CriuReq{Type: rpc.CriuReqType_VERSION.Enum()}, Run{})
	if err != nil {
		return Version{}, err
	}
	v := resp.GetVersion()
	if v == nil {
		return Version{}, &Error{Op: "version", Err: errors.New("the reply holds no version")}
	}
	return Version{int(v.GetMajorNumber()), int(v.GetMinorNumber()), int(v.GetSublevel())}, nil
}

// Features says which of the optional abilities the kernel and CRIU have
// together.
func (c *Client) Features(ctx context.Context) (*rpc.CriuFeatures, error) {
	yes := true
	req := &rpc.CriuReq{
		Type:     rpc.CriuReqType_FEATURE_CHECK.Enum(),
		Features: &rpc.CriuFeatures{MemTrack: &yes, LazyPages: &yes, PidfdStore: &yes},
	}
	resp, err := c.Do(ctx, req, Run{})
	if err != nil {
		return nil, err
	}
	return resp.GetFeatures(), nil
}
