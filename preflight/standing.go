package preflight

import "github.com/migrate-hpc/migrate/job"

// Standing is what keeps every job of this user and form from leaving this node as it is, whatever the
// job does. criuPath is empty on a node without CRIU.
func Standing(spec job.Spec, criuPath string) ([]Finding, error) {
	self, err := readSelf()
	if err != nil {
		return nil, err
	}
	return standing(self, spec, criuPath), nil
}

func standing(self selfFacts, spec job.Spec, criuPath string) []Finding {
	var r report
	if criuPath == "" {
		judgeNoCRIU(&r)
	}
	within := self.UserSpace
	if spec.UserNS {
		within = "" // one that does not exist yet
	}
	first := task{Spaces: []space{{"user", within}}}
	for i := range first.UIDs {
		first.UIDs[i], first.GIDs[i] = spec.UID, spec.GID
	}
	(&jobFacts{Source: self}).judgeRlimits(&r, first)
	return r.findings()
}
