package preflight

import (
	"errors"
	"io/fs"
	"os"
	"runtime"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/migrate-hpc/migrate/affinity"
	"github.com/migrate-hpc/migrate/namespaces"
	"github.com/migrate-hpc/migrate/namespaces/network"
	"github.com/migrate-hpc/migrate/osthread"
	"github.com/migrate-hpc/migrate/procfs"
	"github.com/migrate-hpc/migrate/tmpfs"
)

// nodeFacts is a target as it was seen once.
type nodeFacts struct {
	Arch, Kernel  string
	CPU           []string
	CPUs          affinity.Set // that it gives to its jobs
	Available     int64        // bytes of memory that can be had without swapping
	Room          int64        // bytes free where images and pages go
	MemoryDir     string
	Namespaces    map[string]bool // kind → there are any, and some may be made
	Userfaultfd   bool
	Bridge        bool // the one that the job asks for is there
	Root, WorkDir bool // those are directories
	Mounts        mountView
}

// readNode tells of paths that the job's user has named what that user sees of them.
func readNode(n Needs, memoryDir string, user osthread.User) (nodeFacts, error) {
	f := nodeFacts{Arch: runtime.GOARCH, MemoryDir: memoryDir, Namespaces: namespaceKinds(), Userfaultfd: hasUserfaultfd()}
	var err error
	if f.Kernel, err = kernelRelease(); err != nil {
		return f, err
	}
	if f.CPU, err = cpuFlags(); err != nil {
		return f, err
	}
	if f.CPUs, err = affinity.Of(0); err != nil {
		return f, err
	}
	if f.Available, err = tmpfs.Available(); err != nil {
		return f, err
	}
	if f.Room, err = tmpfs.Room(memoryDir); err != nil {
		return f, err
	}
	f.Bridge = n.Bridge == "" || network.BridgeExists(n.Bridge)
	f.Root = n.Root == "" || isDir(n.Root, user)
	f.WorkDir = n.WorkDir == "" || isDir(n.WorkDir, user)
	for _, m := range n.Mounts {
		_, _ = os.Stat(m.Path) // has an automounter mount it
	}
	mounts, err := procfs.MountTable(os.Getpid())
	f.Mounts = mountView{mounts: mounts}
	return f, err
}

func isDir(path string, user osthread.User) bool {
	st, err := statAs(path, user)
	return err == nil && st.IsDir()
}

func statAs(path string, user osthread.User) (st os.FileInfo, err error) {
	err = osthread.As(user, func() error {
		st, err = os.Stat(path)
		return err
	})
	return st, err
}

// namespaceKinds tells which kinds of namespaces can be made here.
func namespaceKinds() map[string]bool {
	kinds := map[string]bool{}
	for _, k := range namespaces.Kinds {
		_, err := os.Lstat("/proc/self/ns/" + k)
		kinds[k] = err == nil && limitOf(k) != 0
	}
	return kinds
}

// limitOf reads how many namespaces of a kind may be made, see namespaces(7).
// Kernels without the limit have none.
func limitOf(kind string) int64 {
	data, err := os.ReadFile("/proc/sys/user/max_" + kind + "_namespaces")
	if err != nil {
		return -1
	}
	n, err := strconv.ParseInt(strings.TrimSpace(string(data)), 10, 64)
	if err != nil {
		return -1
	}
	return n
}

func hasUserfaultfd() bool {
	fd, _, errno := unix.Syscall(unix.SYS_USERFAULTFD, unix.O_CLOEXEC, 0, 0)
	if errno == 0 {
		_ = unix.Close(int(fd)) // nothing was written
	}
	return errno != unix.ENOSYS
}

// seenMount is what there is on the target where the source has a mount.
type seenMount struct {
	Exists, Dir bool
	Type        string // of the file system there
	Hidden      bool   // from the job's user, who has named it; that binds fail for it is told elsewhere
}

// mount looks at a path with the rights of the user who has named it.
func (f nodeFacts) mount(path string, user osthread.User) seenMount {
	st, err := statAs(path, user)
	if err != nil {
		return seenMount{Hidden: user.UID != 0 && errors.Is(err, fs.ErrPermission)}
	}
	m, _ := f.Mounts.mountOf(path)
	return seenMount{Exists: true, Dir: st.IsDir(), Type: m.Type}
}
