package launch

import (
	"cmp"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/migrate-hpc/migrate/agent/caller"
	"github.com/migrate-hpc/migrate/agent/node"
	"github.com/migrate-hpc/migrate/carry/table"
	"github.com/migrate-hpc/migrate/identity"
	"github.com/migrate-hpc/migrate/job"
	"github.com/migrate-hpc/migrate/namespaces"
	"github.com/migrate-hpc/migrate/namespaces/network"
	"github.com/migrate-hpc/migrate/output"
	"github.com/migrate-hpc/migrate/preflight"
)

const interfaceName = "eth0"

// FillIn sets what the request left open and only this node can decide. It reserves the ids that
// it chooses; the caller releases them with IDs.Release.
func (l *Launcher) FillIn(rec *job.Record) error {
	s := &rec.Spec
	if s.Hostname == "" {
		s.Hostname = string(rec.ID)
	}
	if s.WorkDir == "" {
		s.WorkDir = "/"
	}
	if s.OutputLimit == 0 {
		s.OutputLimit = output.DefaultLimit
	}
	if s.Network.Bridged() && s.Network.MAC == "" {
		s.Network.MAC = NewMAC()
	}
	if s.UserNS {
		if err := checkSearchable(l.Config.RunDir, l.Config.StateDir); err != nil {
			return err
		}
	}
	if s.UserNS {
		anyRange := *s
		anyRange.UIDBase = job.FirstBase // all bases are as long
		if _, gids := IDMaps(anyRange); !namespaces.FitsKernel(gids) {
			return fmt.Errorf("you are in %d groups, more than the kernel maps for a user namespace, and a job may not leave them: start it without --user-ns", len(s.Groups))
		}
		if err := l.ChooseIDs(rec); err != nil {
			return err
		}
	}
	if s.Init {
		if err := prependInit(s); err != nil {
			return err
		}
	}
	if s.Root != "" {
		return nil
	}
	skip := []string{l.Config.RunDir}
	for _, f := range ownFiles(*s) {
		skip = append(skip, f.Path)
	}
	mounts, err := namespaces.NodeMounts(skip...)
	for _, m := range mounts {
		rec.Mounts = append(rec.Mounts, job.Bind{Source: m.Source, Target: m.Target, ReadOnly: m.ReadOnly})
	}
	rec.Mounts = withoutUnseen(*rec)
	return err
}

// withoutUnseen leaves out the mounts that nobody in the job gets to, and that a restore cannot make.
func withoutUnseen(rec job.Record) []job.Bind {
	closed := preflight.ClosedMounts(rec)
	owner := caller.OwnerOf(rec.Spec)
	return slices.DeleteFunc(rec.Mounts, func(m job.Bind) bool {
		if !slices.Contains(closed, m.Target) {
			return false
		}
		return owner.Root() || caller.As(owner, func() error { return openEach([]string{filepath.Dir(m.Target) + "/."}) }) != nil
	})
}

// checkSearchable checks that all users can search these directories. The root of a user namespace
// is an ordinary user outside.
func checkSearchable(dirs ...string) error {
	for _, dir := range dirs {
		for d := filepath.Clean(dir); d != "/"; d = filepath.Dir(d) {
			st, err := os.Stat(d)
			if err != nil {
				return err
			}
			if st.Mode()&0o001 == 0 {
				return fmt.Errorf("a job in a user namespace cannot get through %s to the agent's directories: `chmod o+x %s`, or give the agent others with --state and --run", d, d)
			}
		}
	}
	return nil
}

// prependInit puts a small init before the command. It becomes part of the arguments, so that the
// record says what runs.
func prependInit(s *job.Spec) error {
	path, err := exec.LookPath("catatonit")
	if err == nil {
		_, err = os.Stat(filepath.Join("/", s.Root, path))
	}
	if err != nil {
		return fmt.Errorf("--init needs catatonit in the job's root: %w; install the package catatonit there, or start without --init", err)
	}
	s.Args = append([]string{path, "--"}, s.Args...)
	return nil
}

// NewMAC makes up a unicast, locally administered MAC.
func NewMAC() string {
	mac := make(net.HardwareAddr, 6)
	rand.Read(mac)
	mac[0] = mac[0]&^1 | 2 // unicast, locally administered
	return mac.String()
}

// IDMaps are the id maps of a job in a user namespace.
func IDMaps(s job.Spec) (uids, gids []namespaces.IDMap) {
	return namespaces.PrivateMaps(s.UIDBase, s.UID, s.GID, s.Groups)
}

// NamespaceConfig is the configuration of package namespaces for a job. ioDir holds the output
// files. An unknown resource limit is an error.
func NamespaceConfig(rec job.Record, rootDir, ioDir string) (namespaces.Config, error) {
	s := rec.Spec
	cfg := namespaces.Config{
		Hostname: s.Hostname, Keyring: string(rec.ID), RootDir: rootDir, Root: s.Root, IODir: ioDir,
		Args: s.Args, Env: s.Env, WorkDir: s.WorkDir,
		Stdin: cmp.Or(s.Stdin, "/dev/null"), Stdout: cmp.Or(s.Stdout, namespaces.IOMount+"/stdout"), Stderr: cmp.Or(s.Stderr, namespaces.IOMount+"/stderr"),
		UID: s.UID, GID: s.GID, Groups: caller.SupplementaryGroups(s), Umask: s.Umask,
		Mounts: NodeMounts(rec), Files: ownFiles(s),
	}
	if s.UserNS {
		cfg.User = true
		cfg.UIDs, cfg.GIDs = IDMaps(s)
	}
	for _, l := range s.Rlimits {
		n, ok := rlimits[l.Name]
		if !ok {
			return cfg, fmt.Errorf("resource limit %q is not known", l.Name)
		}
		cfg.Rlimits = append(cfg.Rlimits, namespaces.Rlimit{Resource: n, Soft: l.Soft, Hard: l.Hard})
	}
	return cfg, nil
}

var rlimits = map[string]int{
	"as": unix.RLIMIT_AS, "core": unix.RLIMIT_CORE, "cpu": unix.RLIMIT_CPU, "data": unix.RLIMIT_DATA, "fsize": unix.RLIMIT_FSIZE,
	"locks": unix.RLIMIT_LOCKS, "memlock": unix.RLIMIT_MEMLOCK, "msgqueue": unix.RLIMIT_MSGQUEUE, "nice": unix.RLIMIT_NICE,
	"nofile": unix.RLIMIT_NOFILE, "nproc": unix.RLIMIT_NPROC, "rss": unix.RLIMIT_RSS, "rtprio": unix.RLIMIT_RTPRIO,
	"rttime": unix.RLIMIT_RTTIME, "sigpending": unix.RLIMIT_SIGPENDING, "stack": unix.RLIMIT_STACK,
}

// IdentityRule is the credentials that the launch gives the job's threads for good.
func IdentityRule(cfg namespaces.Config) identity.Rule {
	return identity.Rule{UID: cfg.UID, GID: cfg.GID, Groups: cfg.Groups, UserNS: cfg.User, UIDs: cfg.UIDs, GIDs: cfg.GIDs}
}

// NodeMounts are the job's mounts of paths of the node.
func NodeMounts(rec job.Record) []namespaces.Mount {
	var mounts []namespaces.Mount
	for i, list := range [][]job.Bind{rec.Mounts, rec.Spec.Binds} {
		for _, b := range list {
			mounts = append(mounts, namespaces.Mount{Source: b.Source, Target: b.Target, ReadOnly: b.ReadOnly, Node: i == 0})
		}
	}
	return mounts
}

// ExternalMounts are the mounts that CRIU must not make by itself: path in the job → path on this
// node. The path in the job is also the key of the mount on source and target.
//
// carried says where those mounts lie that are the job's own and that are carried by us.
func ExternalMounts(rec job.Record, ioDir string, carried map[string]string) map[string]string {
	ext := map[string]string{namespaces.IOMount: ioDir}
	for _, dir := range table.Carried.Mounts() {
		ext[dir] = carried[dir]
	}
	for _, m := range NodeMounts(rec) {
		ext[m.Target] = m.Source
	}
	if rec.Spec.UserNS {
		for _, d := range namespaces.Devices() {
			ext[d] = d
		}
	}
	return ext
}

// makeIODir makes the directory of a job's own output files. The files are the user's. The
// directory is root's, so that nothing else gets into it.
func makeIODir(dir string, s job.Spec) error {
	if err := errors.Join(os.MkdirAll(dir, IODirMode), os.Chmod(dir, IODirMode)); err != nil {
		return err
	}
	uid, gid := s.UID, s.GID
	if s.UserNS {
		uids, gids := IDMaps(s)
		uid, _ = namespaces.HostID(uids, uid)
		gid, _ = namespaces.HostID(gids, gid)
	}
	for _, name := range output.Names {
		f, err := os.OpenFile(filepath.Join(dir, name), os.O_CREATE|os.O_EXCL|os.O_WRONLY, outputMode)
		if err != nil {
			return err
		}
		if err := errors.Join(f.Chown(int(uid), int(gid)), f.Close()); err != nil {
			return err
		}
	}
	return nil
}

// IODirMode lets the job's user reach its files from outside, too. outputMode closes them to all
// others but root, as `migrate logs` does.
const (
	IODirMode  = 0o755
	outputMode = 0o600
)

// JobInterface is the network interface of a job, nil without a bridge.
func JobInterface(rec job.Record) *network.Interface {
	n := rec.Spec.Network
	if !n.Bridged() {
		return nil
	}
	return &network.Interface{Name: interfaceName, Host: node.LinkName(rec), Bridge: n.Mode, Address: n.Address, Gateway: n.Gateway, MAC: n.MAC}
}
