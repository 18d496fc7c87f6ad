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

// An address belongs to one job. Under a lock the agent compares it with those of all jobs that
// run here or arrive, and writes the record that claims it.

// PreflightNode is this node as preflight sees it when a job is to come here.
func (l *Launcher) PreflightNode() (preflight.Node, error) {
	coming, err := l.Incoming()
	if err != nil {
		return preflight.Node{}, err
	}
	here, err := l.Jobs.List() // read last: a job goes from incoming to here
	if err != nil {
		l.Log.Warn("some job records cannot be read", logkey.Err, err)
	}
	return preflight.Node{CRIU: l.CRIUClient(), Jobs: append(coming, here...), Networks: l.Config.Networks, MemoryDir: l.Paths.Memory}, nil
}

// ClaimAddress calls write, which writes the record of a job, once its address is free on this node.
// It fails with api.CodeRefused if another job has the address or the policy denies it to the user.
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

// ProbeNetwork begins to probe the job's bridge for its addresses. free waits for the result; it
// must be called, once or more.
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

// InstallPortFilters installs the anti-spoofing filter on the bridge ports of all jobs here: an agent
// of an earlier version may have started them, or an operator removed it.
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
