package vm

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/migrate-hpc/migrate/e2e/vm/guest/api"
)

// Machine is one computer. Its disk keeps what was written to it while it is off.
type Machine struct {
	Name   string
	Kernel string // KernelStable or KernelTesting, for the next start

	number  int
	lab     *Lab
	dir     string
	opts    Options
	process *process
	monitor *monitor
	guest   *guest
}

// bootLimit is generous: under TCG a boot takes 5 s on an idle core.
const bootLimit = 60 * time.Second

func (m *Machine) disk() string { return filepath.Join(m.dir, "disk.img") }

// IP is its address on the segment.
func (m *Machine) IP() string { return fmt.Sprintf("10.77.0.%d", m.number) }

func (m *Machine) mac() string { return fmt.Sprintf("52:54:00:77:00:%02x", m.number) }

// Start switches it on and returns when the agent in it answers. A boot that fails
// is tried once more, and that is said.
func (m *Machine) Start(ctx context.Context) error {
	err := m.boot(ctx, m.lab.kvm)
	if err == nil || ctx.Err() != nil {
		return err
	}
	m.lab.say("boot of machine %s failed, trying once more: %v\n%s", m.Name, err, tail(m.SerialLog()))
	return m.boot(ctx, m.lab.kvm)
}

func (m *Machine) boot(ctx context.Context, kvm bool) error {
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
	if m.opts.AgentPort, err = freePort(); err != nil {
		return err
	}
	return m.run(ctx)
}

// run starts QEMU with the options as they are.
func (m *Machine) run(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, bootLimit, fmt.Errorf("machine %s was not ready after %v", m.Name, bootLimit))
	defer cancel()
	line := m.opts.CommandLine()
	if err := os.WriteFile(filepath.Join(m.dir, "command"), []byte(strings.Join(line, " ")+"\n"), 0o644); err != nil {
		return err
	}
	if err := os.RemoveAll(m.opts.monitor()); err != nil {
		return err
	}
	var err error
	if m.process, err = start(line, filepath.Join(m.dir, "qemu.log")); err != nil {
		return err
	}
	m.guest = newGuest(m.opts.AgentPort)
	if m.monitor, err = dialMonitor(ctx, m.opts.monitor(), m.process.alive); err == nil {
		err = m.settle(ctx)
	}
	if err != nil {
		m.PowerOff()
		return fmt.Errorf("start machine %s: %w", m.Name, err)
	}
	return nil
}

// settle waits for the agent and tells it who it is.
func (m *Machine) settle(ctx context.Context) error {
	if m.opts.Incoming != "" {
		if err := m.monitor.await(ctx, "query-migrate", "completed"); err != nil {
			return err
		}
		if err := m.Resume(ctx); err != nil {
			return err
		}
	}
	if err := m.guest.awaitReady(ctx, m.process.alive); err != nil {
		return err
	}
	return m.guest.configure(ctx, api.Configuration{
		Hostname: m.Name, Address: m.IP() + "/24", MAC: m.mac(), Time: time.Now(), Seed: seed(),
	})
}

// PowerOff cuts the power: what the guest has not flushed to its disk is lost.
// Doing it twice is doing it once.
func (m *Machine) PowerOff() {
	if m.process != nil {
		m.process.kill()
	}
	if m.monitor != nil {
		_ = m.monitor.conn.Close() // its QEMU is gone
	}
	if m.guest != nil {
		m.guest.close()
	}
	m.process, m.monitor, m.guest = nil, nil, nil
}

// Reset is the button: the power goes off and on.
func (m *Machine) Reset(ctx context.Context) error { return m.Start(ctx) }

// Pause stops the processor between two instructions, Resume lets it go on. The
// guest's clocks do not see it, except by comparison with others.
func (m *Machine) Pause(ctx context.Context) error {
	_, err := m.monitor.do(ctx, "stop", nil)
	return err
}

func (m *Machine) Resume(ctx context.Context) error {
	_, err := m.monitor.do(ctx, "cont", nil)
	return err
}

// Cut pulls the machine's cable to the segment, Mend plugs it in again.
func (m *Machine) Cut()  { m.lab.Segment.Cut(m.Name) }
func (m *Machine) Mend() { m.lab.Segment.Mend(m.Name) }

// SerialLog is what the kernel and the agent have said since the first start.
func (m *Machine) SerialLog() string {
	data, err := os.ReadFile(filepath.Join(m.dir, "serial.log"))
	if err != nil {
		return err.Error()
	}
	return string(data)
}

// Port of 127.0.0.1 leads to the agent in the machine.
func (m *Machine) Port() int { return m.opts.AgentPort }

// CommandLine is how QEMU was started last.
func (m *Machine) CommandLine() []string { return m.opts.CommandLine() }

func tail(s string) string {
	const most = 2000
	return s[max(0, len(s)-most):]
}

// freePort finds a port of 127.0.0.1. Somebody might take it before QEMU does; the
// boot is tried again then.
func freePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	port := l.Addr().(*net.TCPAddr).Port
	return port, l.Close()
}
