package preflight

import (
	"errors"
	"io/fs"

	"github.com/migrate-hpc/migrate/fileaccess"
	"github.com/migrate-hpc/migrate/job"
)

// judgeRights asks what the target will ask at the restore. The target may have other rights to
// the files.
func (j *jobFacts) judgeRights(r *report, rec job.Record, initPID int) error {
	asked := fileaccess.Job{Init: initPID, User: userOf(rec)}
	for _, t := range j.Tasks {
		asked.Pids = append(asked.Pids, t.Host)
	}
	for _, b := range append(rec.Mounts[:len(rec.Mounts):len(rec.Mounts)], rec.Spec.Binds...) {
		asked.Binds = append(asked.Binds, b.Target)
	}
	denied, err := fileaccess.Check(asked)
	if err != nil || len(denied) == 0 {
		return err
	}
	again, err := fileaccess.Check(asked) // the job goes on meanwhile
	still := map[string]bool{}
	for _, d := range again {
		still[d.Error()] = true
	}
	closed := mismatch{code: FileDenied, what: "the job has files open or mapped that its user could not open now, and would get them on no other node", remedy: rightsRemedy}
	for _, d := range denied {
		if still[d.Error()] && errors.Is(d, fs.ErrPermission) { // other names are judged elsewhere
			closed.add(d.Error())
		}
	}
	closed.tell(r)
	return err
}
