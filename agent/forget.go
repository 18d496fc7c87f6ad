package agent

import (
	"fmt"
	"net/http"
	"path/filepath"

	"github.com/migrate-hpc/migrate/agent/api"
	"github.com/migrate-hpc/migrate/handoff"
	"github.com/migrate-hpc/migrate/job"
)

// handleForget says what it means to set a damaged journal aside, and with POST does it.
func (a *Agent) handleForget(w http.ResponseWriter, r *http.Request) error {
	name := r.PathValue("move")
	d, err := a.damageOf(name)
	if err != nil {
		return err
	}
	plan := a.forgetPlan(r, d)
	if r.Method == http.MethodGet {
		return reply(w, plan)
	}
	a.log.Warn("an operator sets a journal aside", "move", name, "job", d.Job, "err", d.Err)
	if plan.File, err = a.journal.SetAside(name); err != nil {
		return &api.Error{Code: api.CodeFailed, Message: fmt.Sprintf("set the journal of %s aside: %v", name, err), Hint: "remove the cause, and the same command again"}
	}
	return reply(w, plan)
}

func (a *Agent) damageOf(name string) (handoff.Damage, error) {
	for _, d := range a.journal.Damaged() {
		if d.Name == name {
			return d, nil
		}
	}
	if m, err := handoff.ParseMoveID(name); err == nil {
		if rec, err := a.journal.Get(m); err == nil {
			return handoff.Damage{}, &api.Error{Code: api.CodeRefused, Message: fmt.Sprintf("the journal of move %s can be read: it is %s", m, rec.State), Where: a.whereabouts(rec),
				Hint: "migrate inspect " + name}
		}
	}
	return handoff.Damage{}, &api.Error{Code: api.CodeNotFound, Message: "no damaged journal is called " + name, Hint: "`migrate moves` lists them"}
}

// forgetPlan names the jobs that the file guards and how they stand.
func (a *Agent) forgetPlan(r *http.Request, d handoff.Damage) api.ResolvePlan {
	p := api.ResolvePlan{Move: d.Name, Job: job.ID(d.Job), Node: a.cfg.Node, State: "damaged", Forget: true, Why: d.Err.Error(),
		Does: []string{fmt.Sprintf("%s gets another name and stays. It guards no job any more.", d.Path),
			"Nothing is thawed or ended. The other node of the move is told nothing: what it has is decided there."}}
	guarded := fmt.Sprintf("job %s", d.Job)
	if d.Job == "" {
		guarded = "any job that was here when the file changed last"
	}
	p.Vouch = []string{fmt.Sprintf("You have looked on all nodes where %s is. At most one copy of it runs, or will run.", guarded)}
	recs, _ := a.jobs.List() // of those that can be read
	for _, rec := range recs {
		if state, _ := a.stands(rec); rec.Here() && state == api.JobFrozen && a.unfinished(rec.ID) == "" {
			p.Does = append(p.Does, fmt.Sprintf("Job %s is frozen here by a move. It is then suspended: if another node has it, `migrate rm -f %s` here.", rec.ID, rec.ID))
		}
	}
	return p
}

// waitsForLook says what a damaged journal waits for.
func waitsForLook(d handoff.Damage) string {
	about := "job " + d.Job
	if d.Job == "" {
		about = "every older job of this node"
	}
	return fmt.Sprintf("somebody to look at %s; it guards %s until `migrate resolve %s --forget`", filepath.Base(d.Path), about, d.Name)
}
