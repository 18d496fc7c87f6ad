package checkpoint

import (
	"github.com/migrate-hpc/migrate/checkpoint/image"
	"github.com/migrate-hpc/migrate/namespaces"
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
func (s *Source) network() image.Network {
	changed, err := s.networkChanged()
	switch {
	case err != nil:
		s.Log.Warn("the job's network is left to CRIU", "err", err)
		return image.NetworkSaved
	case changed != "":
		s.Log.Info("the job's network is left to CRIU", "changed", changed)
		return image.NetworkSaved
	case namespaces.HasUserNamespace(s.Init):
		return image.NetworkEmpty
	}
	return image.NetworkInherited
}

func (s *Source) networkChanged() (string, error) {
	if err := s.Ready(); err != nil {
		return "", err
	}
	return s.fresh.Changed(s.Init, s.Interface)
}

// Ready does what can be done before the job stands still. It may be left out.
func (s *Source) Ready() error {
	if s.fresh != nil {
		return nil
	}
	fresh, err := namespaces.NewFresh()
	if err != nil {
		return err
	}
	s.fresh = &fresh
	return nil
}
