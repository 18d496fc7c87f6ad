package job

// The ids of the node that jobs in user namespaces are mapped to: ranges of IDRange, above
// those that distributions give to people and to containers. Agents choose them.
const (
	IDRange   = 1 << 16
	FirstBase = 1 << 30
	EndBase   = 1 << 31
)

// SharesIDs tells whether two jobs in user namespaces have an id of the node in common.
func (s Spec) SharesIDs(other Spec) bool {
	a, b := int64(s.UIDBase), int64(other.UIDBase)
	return s.UserNS && other.UserNS && a < b+IDRange && b < a+IDRange
}

// Validate reports what is wrong with the record of a job that was started somewhere: its
// specification, and what the agent there must have decided.
func (r Record) Validate() error {
	if err := r.Spec.Validate(); err != nil {
		return err
	}
	if r.Spec.UserNS && r.Spec.UIDBase == 0 {
		return wrong("uid_base", "start the job anew with `migrate run`", "it is missing, and the job's root would be the node's")
	}
	return nil
}

func (s Spec) checkBase() error {
	switch {
	case s.UIDBase == 0:
		return nil
	case !s.UserNS:
		return wrong("uid_base", "add it with `migrate run --user-ns`, or leave the base of its ids out", "an id range needs a user namespace to map it")
	case s.UIDBase < FirstBase || s.UIDBase >= EndBase || s.UIDBase%IDRange != 0:
		return wrong("uid_base", "start the job anew with `migrate run`: agents choose the ids", "%d and up are ids of the node that may be somebody's: those of jobs begin at multiples of %d from %d on", s.UIDBase, IDRange, FirstBase)
	}
	return nil
}
