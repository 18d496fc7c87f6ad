package restore

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"github.com/checkpoint-restore/go-criu/v7/rpc"
	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/proto"

	"github.com/migrate-hpc/migrate/criu"
	"github.com/migrate-hpc/migrate/criu/image"
)

// parkRun is a run of CRIU with its directories. CRIU finds them in our /proc/PID/fd, so they stay
// open as long.
type parkRun struct {
	criu.Run
	dirs []*os.File
}

func (plan Plan) request(mode image.Network) (*rpc.CriuReq, parkRun, error) {
	images, err := os.Open(plan.Images)
	if err != nil {
		return nil, parkRun{}, err
	}
	work, err := os.Open(plan.Work)
	if err != nil {
		return nil, parkRun{}, errors.Join(err, images.Close())
	}
	run := parkRun{criu.Run{LogFile: plan.log()}, []*os.File{images, work}}
	opts := &rpc.CriuOpts{
		ImagesDirFd:       proto.Int32(int32(images.Fd())),
		WorkDirFd:         proto.Int32(int32(work.Fd())),
		LogFile:           proto.String(filepath.Base(plan.log())),
		LogLevel:          proto.Int32(2),
		Root:              proto.String(plan.RestoreEnv.RootDir),
		RstSibling:        proto.Bool(true),
		LazyPages:         proto.Bool(true),
		ManageCgroupsMode: rpc.CriuCgMode_IGNORE.Enum(),
		FileLocks:         proto.Bool(true),
		LinkRemap:         proto.Bool(true),
		GhostLimit:        proto.Uint32(criu.GhostLimit),
		TcpEstablished:    proto.Bool(plan.TCP),
		External:          plan.external(mode),
		AutoDedup:         proto.Bool(true), // gives back the room of pages that were read
	}
	if mode == image.NetworkEmpty {
		opts.EmptyNs = proto.Uint32(unix.CLONE_NEWNET)
	}
	return &rpc.CriuReq{Type: rpc.CriuReqType_RESTORE.Enum(), Opts: opts}, run, nil
}

func (plan Plan) external(mode image.Network) []string {
	paths := maps.Clone(plan.Mounts)
	for _, b := range plan.Binds {
		paths[b.Target] = b.Dir
	}
	var ext []string
	for key, path := range paths {
		ext = append(ext, "mnt["+key+"]:"+path)
	}
	if i := plan.Interface; i != nil && mode == image.NetworkSaved {
		ext = append(ext, fmt.Sprintf("veth[%s]:%s", i.Name, i.Host))
	}
	slices.Sort(ext)
	return ext
}
