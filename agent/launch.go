package agent

import (
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/migrate-hpc/migrate/identity"
	"github.com/migrate-hpc/migrate/job"
	"github.com/migrate-hpc/migrate/mqueue"
	"github.com/migrate-hpc/migrate/namespaces"
	"github.com/migrate-hpc/migrate/output"
	"github.com/migrate-hpc/migrate/tmpfs"
)

const interfaceName = "eth0"

// linkName is the node's end of a job's interface.
func linkName(rec job.Record) string {
	if !rec.Spec.Network.Bridged() {
		return ""
	}
	return "mg" + string(rec.ID[1:])
}

// settle fills in what the user left open and only this node can decide. The ids that it chooses
// are held; see idRanges.
func (a *Agent) settle(rec *job.Record) error {
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
		s.Network.MAC = newMAC()
	}
	if s.UserNS {
		if err := passable(a.cfg.RunDir, a.cfg.StateDir); err != nil {
			return err
		}
	}
	if s.UserNS {
		anyRange := *s
		anyRange.UIDBase = job.FirstBase // all bases are as long
		if _, gids := idMaps(anyRange); !namespaces.FitsKernel(gids) {
			return fmt.Errorf("you are in %d groups, more than the kernel maps for a user namespace, and a job may not leave them: start it without --user-ns", len(s.Groups))
		}
		if err := a.chooseIDs(rec); err != nil {
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
	mounts, err := namespaces.NodeMounts(a.cfg.RunDir)
	for _, m := range mounts {
		rec.Mounts = append(rec.Mounts, job.Bind{Source: m.Source, Target: m.Target, ReadOnly: m.ReadOnly})
	}
	return err
}

// passable checks that the root of a user namespace, who is nobody outside, gets
// through to these directories.
func passable(dirs ...string) error {
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

// prependInit puts a small init before the command. It becomes part of the
// arguments, so that it is what the record says that runs.
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

func newMAC() string {
	mac := make(net.HardwareAddr, 6)
	rand.Read(mac)
	mac[0] = mac[0]&^1 | 2 // unicast, locally administered
	return mac.String()
}

// groupsInside are the supplementary groups that a job has. Root's are not mapped by a user
// namespace, in which root is nobody outside.
func groupsInside(s job.Spec) []uint32 {
	if s.UserNS && s.UID == 0 {
		return nil
	}
	return s.Groups
}

// idMaps are those of a job in a user namespace.
func idMaps(s job.Spec) (uids, gids []namespaces.IDMap) {
	return namespaces.PrivateMaps(s.UIDBase, s.UID, s.GID, s.Groups)
}

// namespaceConfig translates a job's specification into what package namespaces
// starts. ioDir holds the output files.
func namespaceConfig(rec job.Record, rootDir, ioDir string) (namespaces.Config, error) {
	s := rec.Spec
	cfg := namespaces.Config{
		Hostname: s.Hostname, Keyring: string(rec.ID), RootDir: rootDir, Root: s.Root, IODir: ioDir,
		Args: s.Args, Env: s.Env, WorkDir: s.WorkDir,
		Stdin: orElse(s.Stdin, "/dev/null"), Stdout: orElse(s.Stdout, namespaces.IOMount+"/stdout"), Stderr: orElse(s.Stderr, namespaces.IOMount+"/stderr"),
		UID: s.UID, GID: s.GID, Groups: groupsInside(s), Umask: s.Umask,
		Mounts: nodeMounts(rec),
	}
	if s.UserNS {
		cfg.User = true
		cfg.UIDs, cfg.GIDs = idMaps(s)
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

// identityRule is what the launch makes of the job's threads, and they cannot undo.
func identityRule(cfg namespaces.Config) identity.Rule {
	return identity.Rule{UID: cfg.UID, GID: cfg.GID, Groups: cfg.Groups, UserNS: cfg.User, UIDs: cfg.UIDs, GIDs: cfg.GIDs}
}

// nodeMounts are all mounts that come from the node by path.
func nodeMounts(rec job.Record) []namespaces.Mount {
	var mounts []namespaces.Mount
	for i, list := range [][]job.Bind{rec.Mounts, rec.Spec.Binds} {
		for _, b := range list {
			mounts = append(mounts, namespaces.Mount{Source: b.Source, Target: b.Target, ReadOnly: b.ReadOnly, Node: i == 0})
		}
	}
	return mounts
}

// externalMounts tells CRIU which mounts it shall not make by itself: path in the
// job → path on this node. The path in the job is also the key that source and
// target know the mount by.
//
// private says where those file systems lie that are the job's own and that are
// carried by us.
func externalMounts(rec job.Record, ioDir, queueDir string, private map[string]string) map[string]string {
	ext := map[string]string{namespaces.IOMount: ioDir, mqueue.Dir: queueDir}
	for _, dir := range tmpfs.Dirs() {
		ext[dir] = private[dir]
	}
	for _, m := range nodeMounts(rec) {
		ext[m.Target] = m.Source
	}
	if rec.Spec.UserNS {
		for _, d := range namespaces.Devices() {
			ext[d] = d
		}
	}
	return ext
}

// makeIODir makes the directory of a job's own output files. The files are the
// user's, the directory is not: nobody but root puts anything else into it.
func makeIODir(dir string, s job.Spec) error {
	if err := errors.Join(os.MkdirAll(dir, ioDirMode), os.Chmod(dir, ioDirMode)); err != nil {
		return err
	}
	uid, gid := s.UID, s.GID
	if s.UserNS {
		uids, gids := idMaps(s)
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

// ioDirMode lets the job's user reach its files, also from outside. They are closed to everybody
// else but root, as `migrate logs` is.
const (
	ioDirMode  = 0o755
	outputMode = 0o600
)

func jobInterface(rec job.Record) *namespaces.Interface {
	n := rec.Spec.Network
	if !n.Bridged() {
		return nil
	}
	return &namespaces.Interface{Name: interfaceName, Host: linkName(rec), Bridge: n.Mode, Address: n.Address, Gateway: n.Gateway, MAC: n.MAC}
}

func orElse(s, other string) string {
	if s == "" {
		return other
	}
	return s
}
