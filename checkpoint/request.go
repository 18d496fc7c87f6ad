package checkpoint

import (
	"os"
	"slices"

	"github.com/checkpoint-restore/go-criu/v7/rpc"
	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/proto"

	"github.com/migrate-hpc/migrate/criu"
	"github.com/migrate-hpc/migrate/criu/image"
)

type dumpRun struct {
	criu.Run
	dirs []*os.File
}

func (r dumpRun) close() {
	for _, d := range r.dirs {
		_ = d.Close() // opened for reading only
	}
}

// request is the only dump request: all jobs are dumped with these options.
func (s *Source) request(mode image.Network) (*rpc.CriuReq, dumpRun, error) {
	images, err := os.Open(s.Images())
	if err != nil {
		return nil, dumpRun{}, err
	}
	work, err := os.Open(s.Dir)
	if err != nil {
		_ = images.Close()
		return nil, dumpRun{}, err
	}
	// Started: see Thaw.
	run := dumpRun{criu.Run{LogFile: s.DumpLog(), Started: s.dumpPID().record}, []*os.File{images, work}}
	opts := &rpc.CriuOpts{
		ImagesDirFd:       proto.Int32(int32(images.Fd())), // CRIU finds them in our /proc/PID/fd
		WorkDirFd:         proto.Int32(int32(work.Fd())),
		Pid:               proto.Int32(int32(s.Init)),
		LogFile:           proto.String("dump.log"),
		LogLevel:          proto.Int32(2),
		FreezeCgroup:      proto.String(s.Cgroup.FreezerDir()),
		ManageCgroupsMode: rpc.CriuCgMode_IGNORE.Enum(),
		FileLocks:         proto.Bool(true),
		LinkRemap:         proto.Bool(true),
		GhostLimit:        proto.Uint32(criu.GhostLimit),
		TcpEstablished:    proto.Bool(s.TCP),
		External:          s.external(),
		LazyPages:         proto.Bool(!s.Eager),
	}
	if mode == image.NetworkEmpty {
		opts.EmptyNs = proto.Uint32(unix.CLONE_NEWNET)
	}
	return &rpc.CriuReq{Type: rpc.CriuReqType_DUMP.Enum(), Opts: opts}, run, nil
}

func (s *Source) external() []string {
	var ext []string
	for path, key := range s.External {
		ext = append(ext, "mnt["+path+"]:"+key)
	}
	slices.Sort(ext)
	return ext
}
