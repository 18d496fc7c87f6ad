package demo

import (
	"errors"
	"fmt"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"

	"github.com/migrate-hpc/migrate/osthread"
)

// network is two network namespaces with a veth pair between them. Nothing of it is
// in the machine's own namespace.
type network struct{ a, b netns.NsHandle }

// The addresses of the two ends, and the name of both.
const (
	addressA = "10.88.0.1"
	addressB = "10.88.0.2"
	endName  = "node0"
)

func newNetwork() (_ *network, err error) {
	n := &network{netns.None(), netns.None()}
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("make the network between the nodes: %w", err), n.close())
		}
	}()
	if n.a, err = newNamespace(); err != nil {
		return nil, err
	}
	if n.b, err = newNamespace(); err != nil {
		return nil, err
	}
	if err := n.connect(); err != nil {
		return nil, err
	}
	return n, nil
}

// newNamespace makes a network namespace that lives as long as its handle and
// the processes in it.
func newNamespace() (ns netns.NsHandle, err error) {
	err = osthread.Throwaway(func() (err error) {
		ns, err = netns.New()
		return err
	})
	return ns, err
}

func (n *network) connect() error {
	h, err := netlink.NewHandleAt(n.a)
	if err != nil {
		return err
	}
	defer h.Close()
	attrs := netlink.NewLinkAttrs()
	attrs.Name = endName
	veth := &netlink.Veth{LinkAttrs: attrs, PeerName: endName, PeerNamespace: netlink.NsFd(n.b)}
	if err := h.LinkAdd(veth); err != nil {
		return fmt.Errorf("make a veth pair (`modprobe veth` if the kernel has it as a module): %w", err)
	}
	return errors.Join(bringUp(n.a, addressA), bringUp(n.b, addressB))
}

func bringUp(ns netns.NsHandle, address string) error {
	h, err := netlink.NewHandleAt(ns)
	if err != nil {
		return err
	}
	defer h.Close()
	addr, err := netlink.ParseAddr(address + "/24")
	if err != nil {
		return err
	}
	end, err := h.LinkByName(endName)
	if err != nil {
		return err
	}
	if err := h.AddrAdd(end, addr); err != nil {
		return fmt.Errorf("set address %s: %w", address, err)
	}
	lo, err := h.LinkByName("lo")
	if err != nil {
		return err
	}
	return errors.Join(h.LinkSetUp(end), h.LinkSetUp(lo))
}

func (n *network) close() error {
	var errs []error
	for _, ns := range []*netns.NsHandle{&n.a, &n.b} {
		if ns.IsOpen() {
			errs = append(errs, ns.Close())
		}
	}
	return errors.Join(errs...)
}
