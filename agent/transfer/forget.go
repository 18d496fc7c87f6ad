package transfer

import (
	"fmt"
	"net/http"
	"path/filepath"

	"github.com/migrate-hpc/migrate/agent/api"
	"github.com/migrate-hpc/migrate/handoff"
	"github.com/migrate-hpc/migrate/job"
)

func (a *Resolver) DamageOf(name string) (handoff.Damage, error) {
	for _, d := range a.Journal.Damaged() {
		if d.Name == name {
			return d, nil
		}
	}
	if m, err := handoff.ParseMoveID(name); err == nil {
		if rec, err := a.Journal.Get(m); err == nil {
			return handoff.Damage{}, &api.Error{Code: api.CodeRefused, Message: fmt.Sprintf("the journal of move %s can be read: it is %s", m, rec.State), Where: a.whereabouts(rec),
				Hint: "migrate inspect " + name}
		}
	}
	return handoff.Damage{}, &api.Error{Code: api.CodeNotFound, Message: "no damaged journal is called " + name, Hint: "`migrate moves` lists them"}
}

// ForgetPlan names the jobs that the file guards and how they stand.
func (a *Resolver) ForgetPlan(r *http.Request, d handoff.Damage) api.ResolvePlan {
	p := api.ResolvePlan{Move: d.Name, Job: job.ID(d.Job), Node: a.Config.Node, State: "damaged", Forget: true, Why: d.Err.Error(),
		Does: []string{fmt.Sprintf("%s gets another name and stays. It guards no job any more.", d.Path),
			"Nothing is thawed or ended. The other node of the move is told nothing: what it has is decided there."}}
	guarded := fmt.Sprintf("job %s", d.Job)
	if d.Job == "" {
		guarded = "any job that was here when the file changed last"
	}
	p.Vouch = []string{fmt.Sprintf("You have looked on all nodes where %s is. At most one copy of it runs, or will run.", guarded)}
	recs, _ := a.Jobs.List() // of those that can be read
	for _, rec := range recs {
		if state, _ := a.RunState(rec); rec.Here() && state == api.JobFrozen && a.UnfinishedRole(rec.ID) == "" {
			p.Does = append(p.Does, fmt.Sprintf("Job %s is frozen here by a move. It is then suspended: if another node has it, `migrate rm -f %s` here.", rec.ID, rec.ID))
		}
	}
	return p
}

// WaitsForLook says what a damaged journal waits for.
func WaitsForLook(d handoff.Damage) string {
	about := "job " + d.Job
	if d.Job == "" {
		about = "every older job of this node"
	}
	return fmt.Sprintf("somebody to look at %s; it guards %s until `migrate resolve %s --forget`", filepath.Base(d.Path), about, d.Name)
}
