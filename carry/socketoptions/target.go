package socketoptions

import (
	"fmt"
	"maps"

	"golang.org/x/sys/unix"

	"github.com/migrate-hpc/migrate/carry"
	"github.com/migrate-hpc/migrate/namespaces/network"
	"github.com/migrate-hpc/migrate/osthread"
	"github.com/migrate-hpc/migrate/pidmap"
	"github.com/migrate-hpc/migrate/stream"
)

type restorer struct {
	carry.NoRestorer
	images string
	record record
	init   int
}

// NewRestorer is the half of the job's shim.
func NewRestorer(e carry.Env) carry.Restorer { return &restorer{images: e.Images} }

// Prepare reads what arrived, before anything is restored.
func (r *restorer) Prepare() (err error) {
	r.record, err = readRecord(r.images)
	return err
}

func (r *restorer) NamespacesReady(init int) error {
	r.init = init
	return nil
}

// Parked sets what differs.
func (r *restorer) Parked() error {
	if len(r.record.Sockets) == 0 {
		return nil
	}
	var defaults []values
	err := osthread.Throwaway(func() error {
		if err := network.Enter(r.init); err != nil {
			return err
		}
		for _, k := range r.record.Kinds {
			defaults = append(defaults, k.differing(fresh(k.kind)))
		}
		return nil
	})
	if err != nil {
		return err
	}
	hosts := map[stream.VPID]int{} // not asked for yet
	for _, s := range r.record.Sockets {
		want := maps.Clone(defaults[s.Kind])
		maps.Copy(want, s.Values)
		if len(want) == 0 && len(s.Groups) == 0 {
			continue
		}
		if len(hosts) == 0 {
			if err := findTasks(r.init, hosts); err != nil {
				return err
			}
		}
		if err := s.mend(hosts, r.record.Kinds[s.Kind].kind, want); err != nil {
			return fmt.Errorf("the socket that process %d has as descriptor %d: %w", s.PID, s.FD, err)
		}
	}
	return nil
}

// differing are the values of a new socket on the source that one has not got here. What this
// kernel does not know is left out.
func (k kindRecord) differing(here values) values {
	want := values{}
	for name, value := range k.Values.without(here) {
		if _, known := here[name]; known || len(here) == 0 {
			want[name] = value
		}
	}
	return want
}

func findTasks(init int, hosts map[stream.VPID]int) error {
	tasks, err := pidmap.InNamespace(init)
	for _, t := range tasks {
		hosts[stream.VPID(t.Job)] = t.Host
	}
	return err
}

// mend gives the parked socket what it had.
func (s socketRecord) mend(hosts map[stream.VPID]int, k kind, want values) error {
	host, ok := hosts[s.PID]
	if !ok {
		return fmt.Errorf("no such process was restored")
	}
	fd, err := borrow(host, s.FD)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if is, err := kindOf(fd); err != nil || is != k {
		return fmt.Errorf("another one was restored: family %d, type %d, protocol %d instead of %d, %d, %d (%v)", is.Family, is.Type, is.Protocol, k.Family, k.Type, k.Protocol, err)
	}
	if err := want.set(fd); err != nil {
		return err
	}
	for _, g := range s.Groups {
		if err := g.join(fd); err != nil {
			return err
		}
	}
	return nil
}
