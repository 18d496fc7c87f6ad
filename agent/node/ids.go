package node

import (
	"errors"
	"fmt"
	"hash/fnv"
	"os"
	"path/filepath"
	"slices"

	"github.com/migrate-hpc/migrate/agent/api"
	"github.com/migrate-hpc/migrate/exactjson"
	"github.com/migrate-hpc/migrate/handoff"
	"github.com/migrate-hpc/migrate/job"
	"github.com/migrate-hpc/migrate/namespaces/cgroup"
	"github.com/migrate-hpc/migrate/preflight"
)

// ChooseIDs sets the base of the ids of a job that starts, and reserves its range until
// IDs.Release. A hash of the job's id picks it, which nearly always keeps the jobs of a whole
// cluster apart.
func (n *Node) ChooseIDs(rec *job.Record) error {
	n.IDs.mu.Lock()
	defer n.IDs.mu.Unlock()
	others, err := n.jobsWithIDs(rec.ID)
	if err != nil {
		return err
	}
	h := fnv.New32a()
	h.Write([]byte(rec.ID))
	const ranges = (job.EndBase - job.FirstBase) / job.IDRange
	for i := range uint32(ranges) {
		rec.Spec.UIDBase = job.FirstBase + (h.Sum32()+i)%ranges*job.IDRange
		if conflictingJob(rec.Spec, others) == "" && !containsOwnIDs(rec.Spec) {
			n.IDs.reserve(string(rec.ID), *rec)
			return nil
		}
	}
	rec.Spec.UIDBase = 0
	return errors.New("every range of user ids is taken by a job: `migrate ps` lists them")
}

// containsOwnIDs tells whether an id of the user lies in the range: those are mapped to themselves.
func containsOwnIDs(s job.Spec) bool {
	return slices.ContainsFunc(append([]uint32{s.UID, s.GID}, s.Groups...), func(id uint32) bool { return id >= s.UIDBase && id-s.UIDBase < job.IDRange })
}

// ReserveIDs reserves the ids of a job that arrives, until the move is finished. It returns a
// finding if another job has one of them.
func (n *Node) ReserveIDs(m handoff.MoveID, rec job.Record) ([]preflight.Finding, error) {
	if !rec.Spec.UserNS {
		return nil, nil
	}
	n.IDs.mu.Lock()
	defer n.IDs.mu.Unlock()
	others, err := n.jobsWithIDs(rec.ID)
	if err != nil {
		return nil, err
	}
	if other := conflictingJob(rec.Spec, others); other != "" {
		return []preflight.Finding{preflight.IDsTaken(rec, other)}, nil
	}
	n.IDs.reserve(string(m), rec)
	return nil, nil
}

func conflictingJob(s job.Spec, others []job.Record) job.ID {
	for _, rec := range others {
		if s.SharesIDs(rec.Spec) {
			return rec.ID
		}
	}
	return ""
}

// jobsWithIDs are the other jobs that have ids of the node, or may have. A job goes from the first
// place to the last, so the places are read in this order.
func (n *Node) jobsWithIDs(but job.ID) (others []job.Record, err error) {
	for _, rec := range n.IDs.reserved {
		others = append(others, rec)
	}
	coming, err := n.Incoming()
	if err != nil {
		return nil, err
	}
	here, err := n.Jobs.List()
	if err != nil {
		return nil, &api.Error{Code: api.CodeFailed, Message: fmt.Sprintf("no job with --user-ns can start on or come to %s: one whose record is damaged may have any user ids: %v", n.Config.Node, err),
			Hint: "the operator puts the record right, or removes the job with `migrate rm -f`; `migrate ps -a` lists what is damaged"}
	}
	others = append(others, coming...)
	for _, rec := range here {
		if rec.Here() || tasksRemain(rec) {
			others = append(others, rec)
		}
	}
	kept := 0
	for _, rec := range others {
		if rec.ID != but && rec.Spec.UserNS {
			others[kept] = rec
			kept++
		}
	}
	return others[:kept], nil
}

// tasksRemain tells whether a job's cgroup still holds tasks. Its record says that the job has left
// before the frozen copy has ended.
func tasksRemain(rec job.Record) bool {
	pids, err := (&cgroup.Cgroup{Dirs: rec.Cgroup}).Pids()
	return err != nil || len(pids) > 0
}

// IncomingRecord is the record of a job that a move brings here; os.ErrNotExist without one.
func (n *Node) IncomingRecord(move string) (job.Record, error) {
	var rec job.Record
	data, err := os.ReadFile(n.Paths.IncomingRecord(move))
	if err != nil {
		return rec, err
	}
	return rec, exactjson.Unmarshal(data, &rec)
}

// Incoming are the jobs on their way here that have a record, those of earlier agents' moves too.
func (n *Node) Incoming() (recs []job.Record, err error) {
	dir := filepath.Dir(n.Paths.Incoming("x"))
	moves, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	for _, m := range moves {
		rec, err := n.IncomingRecord(m.Name())
		if errors.Is(err, os.ErrNotExist) {
			continue // not yet, or not any more
		}
		if err != nil {
			return nil, fmt.Errorf("a job that arrives may have any user ids: %s: %w", filepath.Join(dir, m.Name()), err)
		}
		recs = append(recs, rec)
	}
	return recs, nil
}
