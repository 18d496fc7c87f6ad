package preflight

import (
	"testing"

	"github.com/migrate-hpc/migrate/job"
)

func TestWhatKeepsEveryJobHereIsKnownBeforeTheFirst(t *testing.T) {
	for name, c := range map[string]struct {
		spec job.Spec
		cap  bool
		criu string
		want []Code
	}{
		"root's job":                  {job.Spec{}, false, "/criu", nil},
		"a user's":                    {job.Spec{UID: 1000, GID: 1000}, false, "/criu", []Code{RlimitsHidden}},
		"root's with another group":   {job.Spec{GID: 5}, false, "/criu", []Code{RlimitsHidden}},
		"a user's in a namespace":     {job.Spec{UID: 1000, GID: 1000, UserNS: true}, false, "/criu", nil},
		"a user's where it is no one": {job.Spec{UID: 1000, GID: 1000}, true, "/criu", nil},
		"without CRIU":                {job.Spec{}, true, "", []Code{CRIUMissing}},
	} {
		t.Run(name, func(t *testing.T) {
			wantCodes(t, standing(selfFacts{UserSpace: "user:[2]", CapSysResource: c.cap}, c.spec, c.criu), c.want...)
		})
	}
	if _, err := Standing(job.Spec{}, "/criu"); err != nil {
		t.Error(err)
	}
}
