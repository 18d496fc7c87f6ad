package checkpoint

import (
	"fmt"
	"os"

	"github.com/migrate-hpc/migrate/criu/image"
	"github.com/migrate-hpc/migrate/namespaces"
	"github.com/migrate-hpc/migrate/namespaces/network"
	"github.com/migrate-hpc/migrate/procfs"
)

// networkLook compares the job's network namespace with a new one.
type networkLook struct {
	baseline *network.Baseline // nil: not made yet
}

// mode decides how the job's network namespace is carried. CRIU takes 50 ms and more on either
// side. Most of that goes to a dozen runs of ip, iptables and nft. A job whose network is
// unchanged, which is nearly always, needs none of them: the target makes it anew.
//
// CRIU should not even see the namespace. It would scan the connection tracking table of the whole
// node twice (dump_nf_ct in criu/net.c). That takes 25 ms with the table of a node with 4 GiB or
// more. But the user namespace of a job must own the network namespace. Only CRIU can make such a
// one.
//
// An unknown difference is left to CRIU.
func (l *networkLook) mode(p *Processes, iface *network.Interface) (n image.Network, why string) {
	init := p.Init
	if other, err := p.inOtherNetwork(); err != nil || other != 0 { // CRIU carries all of the job's networks or none
		return image.NetworkSaved, fmt.Sprintf("process %d has made one of its own (%v)", other, err)
	}
	changed, err := l.changed(init, iface)
	switch {
	case err != nil:
		return image.NetworkSaved, err.Error()
	case changed != "":
		return image.NetworkSaved, "changed: " + changed
	case namespaces.HasUserNamespace(init):
		return image.NetworkEmpty, ""
	}
	return image.NetworkInherited, ""
}

// lockNetwork keeps the job's TCP sockets from each other while CRIU saves them one by one. It comes
// when CRIU has begun: a CRIU that probes the kernel connects to itself in the job's network.
func (s *Source) lockNetwork() error {
	some, err := network.HasTCP(s.Init)
	if err != nil || !some {
		return err
	}
	return network.Lock(s.Init)
}

// inOtherNetwork finds a process that is not in the network namespace of PID 1, 0 for none.
func (p *Processes) inOtherNetwork() (pid int, err error) {
	own, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/net", p.Init))
	if err != nil {
		return 0, err
	}
	pids, err := p.Cgroup.Pids()
	for _, pid := range pids {
		has, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/net", pid))
		if err != nil && !procfs.IsGone(err) {
			return 0, err
		}
		if err == nil && has != own {
			return pid, nil
		}
	}
	return 0, err
}

func (l *networkLook) changed(init int, iface *network.Interface) (string, error) {
	if l.baseline == nil {
		fresh, err := network.NewBaseline()
		if err != nil {
			return "", err
		}
		l.baseline = &fresh
	}
	return l.baseline.Diff(init, iface)
}
