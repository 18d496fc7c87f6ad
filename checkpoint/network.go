package checkpoint

import (
	"github.com/migrate-hpc/migrate/criu/image"
	"github.com/migrate-hpc/migrate/namespaces"
	"github.com/migrate-hpc/migrate/namespaces/network"
)

// network decides who carries the job's network namespace. CRIU takes 50 ms and
// more on either side for it, most of it for a dozen runs of ip, iptables and nft;
// so where the job has left its network as it was given, which is nearly always,
// the target makes it anew and CRIU is kept out of it.
//
// Best it does not even see a namespace: it scans the connection tracking table of
// the whole node twice for one whose content nobody wants (dump_nf_ct in criu/net.c,
// 25 ms with the table that nodes of 4 GiB or more have). But the namespace must
// belong to the job's user namespace if there is one, and that only CRIU can make.
//
// What cannot be told is left to CRIU.
func (s *Source) network() (n image.Network, why string) {
	changed, err := s.networkChanged()
	switch {
	case err != nil:
		return image.NetworkSaved, err.Error()
	case changed != "":
		return image.NetworkSaved, "changed: " + changed
	case namespaces.HasUserNamespace(s.Init):
		return image.NetworkEmpty, ""
	}
	return image.NetworkInherited, ""
}

func (s *Source) networkChanged() (string, error) {
	if s.baseline == nil {
		fresh, err := network.NewBaseline()
		if err != nil {
			return "", err
		}
		s.baseline = &fresh
	}
	return s.baseline.Diff(s.Init, s.Interface)
}
