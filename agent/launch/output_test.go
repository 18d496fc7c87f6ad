package launch

import (
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/migrate-hpc/migrate/job"
	"github.com/migrate-hpc/migrate/namespaces"
	"github.com/migrate-hpc/migrate/testenv"
)

func TestOutputOfAJobIsItsUsersAlone(t *testing.T) {
	testenv.NeedRoot(t)
	old := unix.Umask(0)
	defer unix.Umask(old)
	for _, s := range []job.Spec{{UID: 1000, GID: 100}, {UID: 1000, GID: 100, UserNS: true, UIDBase: job.FirstBase}, {UID: 0, GID: 100, UserNS: true, UIDBase: job.FirstBase}} {
		dir := filepath.Join(t.TempDir(), "io")
		if err := makeIODir(dir, s); err != nil {
			t.Fatal(err)
		}
		owner := s.UID
		if s.UserNS {
			uids, _ := IDMaps(s)
			owner, _ = namespaces.HostID(uids, s.UID)
		}
		for name, mode := range map[string]uint32{"": 0o755, "stdout": 0o600, "stderr": 0o600} {
			var st unix.Stat_t
			if err := unix.Stat(filepath.Join(dir, name), &st); err != nil || st.Mode&0o7777 != mode || name != "" && st.Uid != owner || name == "" && st.Uid != 0 {
				t.Errorf("%+v: %s has mode %04o, owner %d (%v)", s, name, st.Mode&0o7777, st.Uid, err)
			}
		}
	}
}
