package image

import (
	"fmt"
	"path/filepath"

	"github.com/checkpoint-restore/go-criu/v7/crit/images/creds"
	criu_core "github.com/checkpoint-restore/go-criu/v7/crit/images/criu-core"
	"github.com/checkpoint-restore/go-criu/v7/crit/images/pstree"
	"github.com/checkpoint-restore/go-criu/v7/crit/images/seccomp"
	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/migrate-hpc/migrate/identity"
	"github.com/migrate-hpc/migrate/namespaces"
)

// thread translates what an image says of one thread.
func (s *saved) thread(core *criu_core.CoreEntry) (t identity.Thread, err error) {
	c := core.GetThreadCore().GetCreds()
	if c == nil { // before CRIU 2.0 they were in an image of their own
		return t, fmt.Errorf("%w: no credentials", ErrFormat)
	}
	if err := s.ids(c, &t); err != nil {
		return t, err
	}
	later, err := readLater(c.ProtoReflect().GetUnknown())
	if err != nil {
		return t, fmt.Errorf("credentials: %w", err)
	}
	t.NoNewPrivs, t.Securebits = later.noNewPrivs != 0, int64(c.GetSecbits())
	for _, set := range []struct {
		to    *uint64
		words []uint32
	}{{&t.Inheritable, c.GetCapInh()}, {&t.Permitted, c.GetCapPrm()}, {&t.Effective, c.GetCapEff()}, {&t.Bounding, c.GetCapBnd()}, {&t.Ambient, later.ambient}} {
		if *set.to, err = capabilities(set.words); err != nil {
			return t, err
		}
	}
	t.Seccomp = int64(core.GetThreadCore().GetSeccompMode())
	t.Filters, err = s.filters(core.GetThreadCore())
	return t, err
}

// ids translates ids of the job to the node's.
func (s *saved) ids(c *creds.CredsEntry, t *identity.Thread) error {
	var uids, gids []namespaces.IDMap
	if ns := s.job.UserNS; ns != nil {
		uids, gids = ns.UIDs, ns.GIDs
		if len(uids) == 0 || len(gids) == 0 {
			return fmt.Errorf("%w: the job's user namespace maps nothing", ErrFormat)
		}
	}
	for i, id := range []uint32{c.GetUid(), c.GetEuid(), c.GetSuid(), c.GetFsuid()} {
		var ok bool
		if t.UIDs[i], ok = namespaces.HostID(uids, id); !ok {
			return fmt.Errorf("%w: uid %d: %w", ErrFormat, id, errUnmapped)
		}
	}
	for i, id := range []uint32{c.GetGid(), c.GetEgid(), c.GetSgid(), c.GetFsgid()} {
		var ok bool
		if t.GIDs[i], ok = namespaces.HostID(gids, id); !ok {
			return fmt.Errorf("%w: gid %d: %w", ErrFormat, id, errUnmapped)
		}
	}
	var groups []uint32
	for _, id := range c.GetGroups() {
		group, ok := namespaces.HostID(gids, id)
		if !ok {
			return fmt.Errorf("%w: group %d: %w", ErrFormat, id, errUnmapped)
		}
		groups = append(groups, group)
	}
	t.Groups = identity.SetOf(groups)
	return nil
}

func capabilities(words []uint32) (set uint64, err error) {
	if len(words) > 2 {
		return 0, fmt.Errorf("%w: %d words of capabilities", ErrFormat, len(words))
	}
	for i, w := range words {
		set |= uint64(w) << (32 * i)
	}
	return set, nil
}

// laterCreds are fields of creds_entry that the types of go-criu do not know.
type laterCreds struct {
	noNewPrivs uint64
	ambient    []uint32
}

const (
	fieldNoNewPrivs = 18
	fieldAmbient    = 19
)

func readLater(data []byte) (l laterCreds, err error) {
	for len(data) > 0 {
		field, kind, n := protowire.ConsumeTag(data)
		if n < 0 {
			return l, fmt.Errorf("%w: %w", ErrFormat, protowire.ParseError(n))
		}
		size := protowire.ConsumeFieldValue(field, kind, data[n:])
		if size < 0 {
			return l, fmt.Errorf("%w: %w", ErrFormat, protowire.ParseError(size))
		}
		value := data[n : n+size]
		data = data[n+size:]
		if field != fieldNoNewPrivs && field != fieldAmbient {
			continue
		}
		if kind != protowire.VarintType { // CRIU packs none of its lists
			return l, fmt.Errorf("%w: field %d is not a number", ErrFormat, field)
		}
		number, _ := protowire.ConsumeVarint(value)
		if field == fieldAmbient {
			l.ambient = append(l.ambient, uint32(number))
		} else {
			l.noNewPrivs = uint64(uint32(number))
		}
	}
	return l, nil
}

// filters counts the seccomp filters of a thread: each names the one before it.
func (s *saved) filters(core *criu_core.ThreadCoreEntry) (int64, error) {
	chain, err := s.chain(core)
	return int64(len(chain)), err
}

const filtered = 2 // SECCOMP_MODE_FILTER

func (s *saved) chain(core *criu_core.ThreadCoreEntry) (chain []*seccomp.SeccompFilter, err error) {
	if core.GetSeccompMode() != filtered {
		return nil, nil
	}
	if s.chains == nil {
		var e seccomp.SeccompEntry
		if err := readMessage(filepath.Join(s.dir, "seccomp.img"), magicSeccomp, maxSeccompImage, &e); err != nil {
			return nil, err
		}
		s.chains = e.GetSeccompFilters()
	}
	at := core.SeccompFilter
	for at != nil {
		if int64(*at) >= int64(len(s.chains)) || len(chain) >= len(s.chains) {
			return nil, fmt.Errorf("%w: its seccomp filters lead nowhere", ErrFormat)
		}
		chain = append(chain, s.chains[*at])
		at = s.chains[*at].Prev
	}
	return chain, nil
}

// shareFilters is for threads that all have the same filters. CRIU has the main thread set them for
// all, and says nothing of the others (try_use_tsync in its seccomp.c).
func (s *saved) shareFilters(e *pstree.PstreeEntry, leader *criu_core.ThreadCoreEntry) error {
	chain, err := s.chain(leader)
	if err != nil {
		return err
	}
	forAll := int64(0)
	for _, f := range chain {
		if f.GetFlags()&unix.SECCOMP_FILTER_FLAG_TSYNC != 0 {
			forAll++
		}
	}
	for _, tid := range e.GetThreads() {
		id := identity.ID{PID: int(e.GetPid()), TID: int(tid)}
		if t, ok := s.job.Threads[id]; ok && forAll > 0 && t.Seccomp == 0 {
			t.Seccomp, t.Filters = filtered, forAll
			s.job.Threads[id] = t
		}
	}
	return nil
}
