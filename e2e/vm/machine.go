package vm

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"time"
)

// Machine is one computer. Its disk keeps what was written to it while it is off.
type Machine struct {
	Name   string
	Kernel string // KernelStable or KernelTesting, for the next start
	// Older is what MONOTONIC and BOOTTIME begin with at the next start, as if it had
	// been up for so long. With KVM they begin with 0.
	Older time.Duration

	number  int
	lab     *Lab
	dir     string
	opts    Options
	process *process
	monitor *monitor
	console net.Conn
	guest   *guest
	hz      int64 // of its time stamp counter, known when it has booted
}

func (m *Machine) disk() string { return filepath.Join(m.dir, "disk.img") }

// IP is its address on the segment.
func (m *Machine) IP() string { return fmt.Sprintf("10.77.0.%d", m.number) }

func (m *Machine) mac() string { return fmt.Sprintf("52:54:00:77:00:%02x", m.number) }

// PowerOff cuts the power: what the guest has not flushed to its disk is lost.
// Doing it twice is doing it once.
func (m *Machine) PowerOff() {
	if m.process != nil {
		m.process.kill()
	}
	if m.monitor != nil {
		_ = m.monitor.conn.Close() // its QEMU is gone
	}
	if m.console != nil {
		_ = m.console.Close() // closed already, as a rule
	}
	if m.guest != nil {
		m.guest.close()
	}
	m.process, m.monitor, m.console, m.guest = nil, nil, nil, nil
}

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
