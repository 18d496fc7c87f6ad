package vm

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/migrate-hpc/migrate/e2e/vm/guest/api"
)

// bootLimit is for a host with much else to do; on an idle one a boot takes seconds. A
// kernel that panics and a QEMU that ends are noticed at once.
const bootLimit = 5 * time.Minute

// Start switches it on and returns when the agent in it answers. What fails is tried
// once more, and that is said.
func (m *Machine) Start(ctx context.Context) error {
	err := m.start(ctx)
	if err == nil || ctx.Err() != nil {
		return err
	}
	m.lab.say("start of machine %s failed, trying once more: %v\n%s", m.Name, err, tail(m.SerialLog()))
	return errors.Join(m.lab.forget(m.Kernel), m.start(ctx))
}

// start boots a kernel, or goes on with a snapshot of one that has booted.
func (m *Machine) start(ctx context.Context) error {
	if m.lab.kvm {
		return m.boot(ctx, true, m.enter)
	}
	s, err := m.lab.snapshot(ctx, m.Kernel)
	if err != nil {
		return fmt.Errorf("snapshot of a booted kernel: %w", err)
	}
	if err := m.prepare(false); err != nil {
		return err
	}
	m.opts.Incoming = filepath.Join(m.dir, "state")
	if err := s.copyOlder(m.opts.Incoming, m.Older); err != nil {
		return err
	}
	return errors.Join(m.run(ctx, m.goOn), os.Remove(m.opts.Incoming))
}

// boot starts the kernel; as soon as that has booted, then is called.
func (m *Machine) boot(ctx context.Context, kvm bool, then func(context.Context) error) error {
	if err := m.prepare(kvm); err != nil {
		return err
	}
	return m.run(ctx, func(ctx context.Context) error {
		hz, err := m.awaitBooted(ctx)
		if err != nil {
			return err
		}
		m.hz = hz
		return then(ctx)
	})
}

// prepare makes the options of a machine that starts from nothing.
func (m *Machine) prepare(kvm bool) error {
	m.PowerOff()
	ramDisk, err := m.lab.ramDisk(m.Kernel)
	if err != nil {
		return err
	}
	m.opts = Options{
		Name: m.Name, QEMU: m.lab.image.qemu, KVM: kvm, Kernel: m.lab.image.kernel(m.Kernel), RAMDisk: ramDisk,
		Disk: m.disk(), Dir: m.dir, MAC: m.mac(),
	}
	if m.opts.Segment, err = m.lab.Segment.Plug(m.Name); err != nil {
		return err
	}
	m.opts.AgentPort, err = freePort()
	return err
}

// run starts QEMU with the options as they are, and then does what is to be done.
func (m *Machine) run(ctx context.Context, then func(context.Context) error) error {
	ctx, cancel := context.WithTimeoutCause(ctx, bootLimit, fmt.Errorf("machine %s was not ready after %v", m.Name, bootLimit))
	defer cancel()
	line := m.opts.CommandLine()
	if err := os.WriteFile(filepath.Join(m.dir, "command"), []byte(strings.Join(line, " ")+"\n"), 0o644); err != nil {
		return err
	}
	if err := errors.Join(os.RemoveAll(m.opts.monitor()), os.RemoveAll(m.opts.console())); err != nil {
		return err
	}
	var err error
	if m.process, err = start(line, filepath.Join(m.dir, "qemu.log")); err != nil {
		return err
	}
	m.guest = newGuest(m.opts.AgentPort)
	if m.monitor, err = dialMonitor(ctx, m.opts.monitor(), m.process.alive); err == nil {
		if m.console, err = net.Dial("unix", m.opts.console()); err == nil {
			err = then(ctx)
		}
	}
	if err != nil {
		m.PowerOff()
		return fmt.Errorf("start machine %s: %w", m.Name, err)
	}
	return nil
}

// awaitBooted reads the console until the guest says that the kernel has booted, and
// returns the frequency of its time stamp counter.
func (m *Machine) awaitBooted(ctx context.Context) (hz int64, err error) {
	stop := context.AfterFunc(ctx, func() { _ = m.console.SetReadDeadline(time.Now()) })
	defer stop()
	for r := bufio.NewReader(m.console); ; {
		line, err := r.ReadString('\n')
		if err != nil {
			return 0, errors.Join(fmt.Errorf("the kernel has not booted: %w", err), m.process.alive(), context.Cause(ctx))
		}
		if _, value, found := strings.Cut(line, api.Booted); found {
			return strconv.ParseInt(strings.TrimSpace(value), 10, 64)
		}
	}
}

// goOn is what a machine begins with that comes out of a snapshot.
func (m *Machine) goOn(ctx context.Context) error {
	if err := m.monitor.await(ctx, "query-migrate", "completed"); err != nil {
		return err
	}
	if err := m.Resume(ctx); err != nil {
		return err
	}
	return m.enter(ctx)
}

// enter has the guest go on to its disk, waits for the agent, and tells it who it is.
func (m *Machine) enter(ctx context.Context) error {
	if _, err := m.console.Write([]byte(api.Go)); err != nil {
		return err
	}
	_ = m.console.Close() // the log goes on
	if err := m.guest.awaitReady(ctx, m.process.alive); err != nil {
		return err
	}
	err := m.guest.tell(ctx, "POST", "/configure", api.Configuration{
		Hostname: m.Name, Address: m.IP() + "/24", MAC: m.mac(), Seed: seed(),
	})
	if err != nil {
		return err
	}
	return m.SetClock(ctx, 0)
}

// freePort finds a port of 127.0.0.1. Another process may take it before QEMU does; the
// boot is tried again then.
func freePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	port := l.Addr().(*net.TCPAddr).Port
	return port, l.Close()
}
