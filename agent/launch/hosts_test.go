package launch

import (
	"strings"
	"testing"

	"github.com/migrate-hpc/migrate/job"
)

func TestTheFirstLineOfHostsIsTheJobs(t *testing.T) {
	bridge := job.Network{Mode: "br0", Address: "10.0.0.7/24"}
	for want, s := range map[string]job.Spec{
		"127.0.1.1 sim\n":             {Hostname: "sim", Network: job.Network{Mode: job.NetworkNone}},
		"127.0.1.1 sim.lab.org sim\n": {Hostname: "sim.lab.org"},
		"10.0.0.7 sim\n":              {Hostname: "sim", Network: bridge},
		"":                            {Hostname: "localhost.localdomain", Network: bridge},
	} {
		if got := hostsLine(s); got != want {
			t.Errorf("%+v: %q, want %q", s, got, want)
		}
	}
}

func TestAJobHasNoFilesWhereItsUserHasChosen(t *testing.T) {
	own := ownFiles(job.Spec{Hostname: "sim"})
	if len(own) == 0 || own[0].Path != hostsPath || !strings.HasPrefix(string(own[0].Text), "127.0.1.1 sim\n") {
		t.Fatalf("without any choice: %+v", own)
	}
	for name, s := range map[string]job.Spec{
		"another root":     {Root: "/srv/image"},
		"a bind of it":     {Binds: []job.Bind{{Target: "/etc/hosts"}, {Target: "/etc/./hostname"}}},
		"a bind above it":  {Binds: []job.Bind{{Target: "/etc/"}}},
		"a bind above all": {Binds: []job.Bind{{Target: "/"}}},
	} {
		if got := ownFiles(s); len(got) != 0 {
			t.Errorf("%s: %+v", name, got)
		}
	}
	if got := ownFiles(job.Spec{Binds: []job.Bind{{Target: "/etc/hosts.d"}}}); len(got) != len(own) {
		t.Errorf("a bind beside it: %+v", got)
	}
}
