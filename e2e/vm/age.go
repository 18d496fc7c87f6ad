package vm

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// Age makes the machine this much older: MONOTONIC and BOOTTIME go on from there, as
// if it had been up for so long. No system call sets these clocks, and a time
// namespace around everything would not be what a machine with a long uptime is. But
// they count the processor's time stamp counter, and under TCG that counter is part
// of the state that QEMU saves: the machine is saved, its counter turned forward,
// and the machine goes on. Programs in it see a jump, so this comes before the agent.
func (m *Machine) Age(ctx context.Context, by time.Duration) error {
	if m.opts.KVM {
		return errors.New("with KVM the counter is not saved where it can be turned")
	}
	hz, err := m.counterFrequency(ctx)
	if err != nil {
		return err
	}
	state := filepath.Join(m.dir, "state")
	if err := m.save(ctx, state); err != nil {
		return fmt.Errorf("save machine %s: %w", m.Name, err)
	}
	m.PowerOff()
	if err := turnForward(state, int64(by.Seconds()*hz)); err != nil {
		return err
	}
	m.opts.Incoming = state
	if err := m.run(ctx); err != nil {
		return err
	}
	m.opts.Incoming = ""
	return os.Remove(state)
}

// counterFrequency is what the guest's kernel has measured, in Hz.
func (m *Machine) counterFrequency(ctx context.Context) (float64, error) {
	text, err := m.Exec(ctx, "grep", "-m1", "cpu MHz", "/proc/cpuinfo")
	if err != nil {
		return 0, err
	}
	_, value, _ := strings.Cut(text, ":")
	mhz, err := strconv.ParseFloat(strings.TrimSpace(value), 64)
	if err != nil {
		return 0, fmt.Errorf("frequency of the counter: %w", err)
	}
	return mhz * 1e6, nil
}

// save stops the machine for good and writes its state to a file. Its disk has all
// that the guest has handed to it.
func (m *Machine) save(ctx context.Context, path string) error {
	if err := m.Pause(ctx); err != nil {
		return err
	}
	if _, err := m.monitor.do(ctx, "migrate-set-parameters", map[string]any{"max-bandwidth": int64(math.MaxInt32) << 10}); err != nil {
		return err
	}
	if _, err := m.monitor.do(ctx, "migrate", map[string]any{"uri": "exec:cat >" + path}); err != nil {
		return err
	}
	return m.monitor.await(ctx, "query-migrate", "completed")
}

// timerSection begins what QEMU saves of its clocks: the name with its length before
// it, instance 0, version 2 (vmstate_timers in system/cpu-timers.c of QEMU 7.2 to 11).
// The counter of a stopped machine follows in 8 bytes.
var timerSection = []byte("\x05timer\x00\x00\x00\x00\x00\x00\x00\x02")

// turnForward changes the time stamp counter in a saved machine. QEMU's own clocks
// stay, so no timer of a device is late.
func turnForward(path string, ticks int64) error {
	data, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	at := bytes.Index(data, timerSection)
	if at < 0 || at != bytes.LastIndex(data, timerSection) || len(data) < at+len(timerSection)+8 {
		return errors.New("the clocks are not found in the saved machine: this QEMU saves them in another way")
	}
	counter := data[at+len(timerSection):][:8]
	binary.BigEndian.PutUint64(counter, binary.BigEndian.Uint64(counter)+uint64(ticks))
	return os.WriteFile(path, data, 0o600)
}
