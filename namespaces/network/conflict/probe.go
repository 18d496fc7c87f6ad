package conflict

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"time"

	"github.com/mdlayher/packet"
	"golang.org/x/sync/errgroup"
)

// How often and how long the network is asked.
const (
	probes   = 3
	interval = 60 * time.Millisecond
	patience = 80 * time.Millisecond // after the last
)

// InUse is an address that another host on the bridge has, or takes at this moment.
type InUse struct {
	Address netip.Addr
	Bridge  string
	MAC     net.HardwareAddr // of the host that answered
}

func (e *InUse) Error() string {
	return fmt.Sprintf("%s is in use on bridge %s: %s answers for it", e.Address, e.Bridge, e.MAC)
}

// Probe returns an *InUse if another host on the bridge has one of the addresses. Any other error
// means that the network could not be asked.
func Probe(ctx context.Context, bridge string, addresses ...netip.Addr) error {
	ifi, err := net.InterfaceByName(bridge)
	if err != nil {
		return fmt.Errorf("bridge %s: %w", bridge, err)
	}
	if len(ifi.HardwareAddr) == 0 {
		return nil // it has no port, and no host to ask
	}
	if ifi.Flags&net.FlagUp == 0 {
		return fmt.Errorf("bridge %[1]s is down, so the network cannot be asked whether an address is free: `ip link set %[1]s up`", bridge)
	}
	var all []*asking
	defer func() {
		for _, q := range all {
			_ = q.conn.Close() // nothing is lost with it
		}
	}()
	for _, a := range addresses { // here, because threads may be in different networks
		q, err := open(ifi, a)
		if err != nil {
			return fmt.Errorf("ask on bridge %s for %s: %w", bridge, a, err)
		}
		all = append(all, q)
	}
	group, ctx := errgroup.WithContext(ctx)
	for _, q := range all {
		group.Go(func() error {
			err := q.ask(ctx)
			if err != nil && !errors.As(err, new(*InUse)) {
				return fmt.Errorf("ask on bridge %s for %s: %w", bridge, q.address, err)
			}
			return err
		})
	}
	return group.Wait()
}

// asking is the question for one address.
type asking struct {
	question
	address netip.Addr
	ifi     *net.Interface
	conn    *packet.Conn
}

func open(ifi *net.Interface, a netip.Addr) (*asking, error) {
	ask := askARP
	if a.Is6() {
		ask = askNDP
	}
	q, err := ask(ifi.HardwareAddr, a)
	if err != nil {
		return nil, err
	}
	conn, err := packet.Listen(ifi, packet.Datagram, q.protocol, &packet.Config{Filter: q.filter})
	if err != nil {
		return nil, err
	}
	return &asking{question: q, address: a, ifi: ifi, conn: conn}, nil
}

func (q *asking) ask(ctx context.Context) error {
	for n := range probes {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if _, err := q.conn.WriteTo(q.packet, &packet.Addr{HardwareAddr: q.to}); err != nil {
			return err
		}
		wait := interval
		if n == probes-1 {
			wait = patience
		}
		mac, err := q.listen(time.Now().Add(wait))
		if err != nil {
			return err
		}
		if mac != nil {
			return &InUse{Address: q.address, Bridge: q.ifi.Name, MAC: mac}
		}
	}
	return nil
}

// listen waits for an answer of another host; nil is none.
func (q *asking) listen(until time.Time) (net.HardwareAddr, error) {
	if err := q.conn.SetReadDeadline(until); err != nil {
		return nil, err
	}
	for buf := make([]byte, 1<<16); ; {
		n, from, err := q.conn.ReadFrom(buf)
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded):
			return nil, nil
		case err != nil:
			return nil, err
		}
		if a, ok := from.(*packet.Addr); ok && !slices.Equal(a.HardwareAddr, q.ifi.HardwareAddr) && q.concerns(buf[:n]) {
			return a.HardwareAddr, nil
		}
	}
}
