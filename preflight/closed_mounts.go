package preflight

import (
	"os"
	"path"
	"slices"
	"strings"
	"syscall"

	"github.com/migrate-hpc/migrate/job"
	"github.com/migrate-hpc/migrate/namespaces"
)

// owned is who may search a directory.
type owned struct {
	UID, GID uint32
	Mode     os.FileMode
}

// ClosedMounts are those mounts of the node in the record of a job with a user namespace that lie
// beneath a directory which the namespace's root may not search. A restore makes the mounts with that
// root's rights. They are the targets of the mounts.
func ClosedMounts(rec job.Record) []string {
	return closedMounts(rec, func(dir string) (owned, bool) {
		info, err := os.Stat(dir)
		if err != nil {
			return owned{}, false
		}
		st := info.Sys().(*syscall.Stat_t)
		return owned{st.Uid, st.Gid, info.Mode()}, true
	})
}

// closedMounts leaves directories that are missing to other judgements.
func closedMounts(rec job.Record, stat func(dir string) (owned, bool)) []string {
	s := rec.Spec
	if !s.UserNS || s.Root != "" {
		return nil
	}
	uids, gids := namespaces.PrivateMaps(s.UIDBase, s.UID, s.GID, s.Groups)
	var closed []string
	for _, m := range rec.Mounts {
		for dir := path.Dir(path.Clean(m.Target)); dir != "/"; dir = path.Dir(dir) {
			d, ok := stat(dir)
			if ok && d.Mode&0o001 == 0 && !(mapped(uids, d.UID) && mapped(gids, d.GID)) {
				closed = append(closed, m.Target)
				break
			}
		}
	}
	return closed
}

// mapped tells whether an id of the node is one of the namespace's: its root may do all with what
// belongs to such ids.
func mapped(maps []namespaces.IDMap, id uint32) bool {
	return slices.ContainsFunc(maps, func(m namespaces.IDMap) bool { return id >= m.Outside && id-m.Outside < m.Count })
}

func judgeClosedMounts(r *report, closed []string) {
	if len(closed) > 0 {
		r.add(MountClosed, "let others search the directories above it: `chmod o+x DIRECTORY` (`namei -l PATH` shows which are closed), or start the job without --user-ns",
			"root of the job's user namespace makes its mounts at a restore, and may not pass the directories above %s on this node", strings.Join(closed, ", "))
	}
}
