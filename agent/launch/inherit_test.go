package launch

import (
	"strings"
	"testing"

	"github.com/migrate-hpc/migrate/agent/api"
	"github.com/migrate-hpc/migrate/agent/caller"
	"github.com/migrate-hpc/migrate/agent/httpjson"
	"github.com/migrate-hpc/migrate/agent/node/nodetest"
	"github.com/migrate-hpc/migrate/job"
	"github.com/migrate-hpc/migrate/testenv"
)

func TestInheritRefusesAHardLimitAboveTheCallers(t *testing.T) {
	user := caller.Caller{UID: 1000, GID: 1000, Pid: testenv.LowLimits(t)}
	for _, c := range []struct {
		limit job.Rlimit
		says  []string // nil: allowed
	}{
		{job.Rlimit{Name: "nofile", Soft: 10, Hard: 100}, nil},
		{job.Rlimit{Name: "nofile", Soft: 10, Hard: 101}, []string{"nofile", "101", "100"}},
		{job.Rlimit{Name: "nofile", Soft: 10, Hard: job.Unlimited}, []string{"nofile", "unlimited", "100"}},
		{job.Rlimit{Name: "core", Soft: 0, Hard: 0}, nil},
		{job.Rlimit{Name: "core", Soft: 0, Hard: 1}, []string{"core", "1", "0"}},
	} {
		s := job.Spec{Rlimits: []job.Rlimit{c.limit}}
		err := Inherit(&s, user)
		if (err == nil) != (c.says == nil) || err != nil && nodetest.CodeOf(err) != api.CodeUsage {
			t.Errorf("%+v: %v", c.limit, err)
			continue
		}
		for _, word := range c.says {
			if e := httpjson.ErrorOf(err); !strings.Contains(e.Message, word) || !strings.Contains(e.Hint, "--ulimit "+c.limit.Name) {
				t.Errorf("%+v: %q is missing in %+v", c.limit, word, e)
			}
		}
		root := job.Spec{Rlimits: []job.Rlimit{c.limit}}
		if err := Inherit(&root, caller.Caller{UID: 0, GID: 0, Pid: testenv.LowLimits(t)}); err != nil {
			t.Errorf("root is refused %+v: %v", c.limit, err)
		}
	}
}
