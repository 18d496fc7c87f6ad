package launch

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"

	"github.com/migrate-hpc/migrate/agent/api"
	"github.com/migrate-hpc/migrate/job"
	"github.com/migrate-hpc/migrate/logkey"
	"github.com/migrate-hpc/migrate/namespaces/network"
	"github.com/migrate-hpc/migrate/namespaces/network/antispoof"
	"github.com/migrate-hpc/migrate/namespaces/network/conflict"
	"github.com/migrate-hpc/migrate/preflight"
)

// An address is one job's: what gets it is written down, under a lock, as a job of this
// node or as one that arrives, and everybody else is compared with that.

// PreflightNode is what this node knows of itself when a job is to come to it.
func (l *Launcher) PreflightNode() (preflight.Node, error) {
	coming, err := l.Incoming()
	if err != nil {
		return preflight.Node{}, err
	}
	here, err := l.Jobs.List() // after those that come, which go from there to here
	if err != nil {
		l.Log.Warn("some job records cannot be read", logkey.Err, err)
	}
	return preflight.Node{CRIU: l.CRIUClient(), Jobs: append(coming, here...), Networks: l.Config.Networks, MemoryDir: l.Paths.Memory}, nil
}

// ClaimAddress gives a job the network that it asks for, by write, unless its user may not have
// it or somebody has it on this node.
func (l *Launcher) ClaimAddress(rec job.Record, write func() error) error {
	if !rec.Spec.Network.Bridged() {
		return write()
	}
	l.addresses.Lock()
	defer l.addresses.Unlock()
	node, err := l.PreflightNode()
	if err != nil {
		return err
	}
	findings, err := preflight.CheckNetwork(rec, node)
	if err != nil {
		return err
	}
	if len(findings) > 0 {
		return &api.Error{Code: api.CodeRefused, Message: findings[0].Cause, Hint: findings[0].Remedy}
	}
	return write()
}

// ProbeNetwork begins to ask on the job's bridge for the addresses that it will have. free
// waits for the answer; it must be called, once or more.
func (l *Launcher) ProbeNetwork(ctx context.Context, s job.Spec) (free func() error) {
	if !s.Network.Bridged() {
		return func() error { return nil }
	}
	answer := make(chan error, 1)
	go func() { answer <- probe(ctx, s.Network) }()
	return sync.OnceValue(func() error { return <-answer })
}

func probe(ctx context.Context, n job.Network) error {
	address, err := netip.ParsePrefix(n.Address)
	if err != nil {
		return err
	}
	mac, err := net.ParseMAC(n.MAC)
	if err != nil {
		return err
	}
	if !network.BridgeExists(n.Mode) {
		cause, remedy := preflight.NoBridge(n.Mode)
		return &api.Error{Code: api.CodeRefused, Message: cause, Hint: remedy}
	}
	err = conflict.Probe(ctx, n.Mode, address.Addr(), antispoof.LinkLocal(mac))
	var used *conflict.InUse
	if !errors.As(err, &used) {
		return err
	}
	if used.Address == address.Addr() {
		return &api.Error{Code: api.CodeRefused, Message: used.Error(), Hint: "choose another address; `ip neigh` and `bridge fdb show` lead to who has that MAC"}
	}
	return &api.Error{Code: api.CodeRefused, Message: fmt.Sprintf("MAC %s is in use on bridge %s: %s", n.MAC, n.Mode, used), Hint: "`migrate run` without --mac makes one up"}
}

// InstallPortFilters has the ports of jobs take in nothing but what those may send, if an agent
// of an earlier version has started them, or an operator has removed the filter.
func (l *Launcher) InstallPortFilters() {
	recs, _ := l.Jobs.List() // those that can be read
	for _, rec := range recs {
		i := JobInterface(rec)
		if i == nil || !rec.Here() {
			continue
		}
		if err := i.InstallFilter(); err != nil {
			l.Log.Error("a job may send as another", logkey.Job, rec.ID, logkey.Err, err)
		}
	}
}
