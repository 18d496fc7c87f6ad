package vm

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// Snapshot is the state of an emulated machine whose kernel has booted, and whose
// guest waits before it touches the disk. So it goes with every disk, and a machine
// that comes up from it after a power cut reads its disk as after a boot.
type Snapshot struct {
	state string // what QEMU has saved
	hz    int64  // of the time stamp counter
}

// snapshot returns the one for a kernel. It is made when it is first needed, beside
// the image, and found there by all that is in it.
func (l *Lab) snapshot(ctx context.Context, kernel string) (Snapshot, error) {
	unlock, err := l.image.lockSnapshots()
	if err != nil {
		return Snapshot{}, err
	}
	defer unlock()
	dir, err := l.snapshotDir(ctx, kernel)
	if err != nil {
		return Snapshot{}, err
	}
	s := Snapshot{state: filepath.Join(dir, "state")}
	text, err := os.ReadFile(filepath.Join(dir, "hz"))
	if errors.Is(err, os.ErrNotExist) {
		text, err = l.makeSnapshot(ctx, kernel, dir)
	}
	if err != nil {
		return Snapshot{}, err
	}
	if s.hz, err = strconv.ParseInt(string(text), 10, 64); err != nil {
		return Snapshot{}, fmt.Errorf("%s/hz: %w", dir, err)
	}
	return s, nil
}

// forget removes the snapshot for a kernel, which may be damaged.
func (l *Lab) forget(kernel string) error {
	unlock, err := l.image.lockSnapshots()
	if err != nil {
		return err
	}
	defer unlock()
	dir, err := l.snapshotDir(context.Background(), kernel)
	if err != nil {
		return err
	}
	return os.RemoveAll(dir)
}

// lockSnapshots keeps other labs away from them.
func (im Image) lockSnapshots() (unlock func(), err error) {
	if err := os.MkdirAll(im.snapshots(), 0o755); err != nil {
		return nil, err
	}
	f, err := os.Open(im.snapshots())
	if err != nil {
		return nil, err
	}
	for {
		switch err = unix.Flock(int(f.Fd()), unix.LOCK_EX); err {
		case nil:
			return func() { _ = f.Close() }, nil
		case unix.EINTR:
		default:
			return nil, errors.Join(fmt.Errorf("lock %s: %w", f.Name(), err), f.Close())
		}
	}
}

// snapshotDir is named for everything that the snapshot depends on. The counter of the
// emulated machine is the host's, so its frequency is one of these things; it may be
// another when the host has booted again.
func (l *Lab) snapshotDir(ctx context.Context, kernel string) (string, error) {
	ramDisk, err := l.ramDisk(kernel)
	if err != nil {
		return "", err
	}
	all := sha256.New()
	for _, path := range []string{"/proc/sys/kernel/random/boot_id", ramDisk, l.image.kernel(kernel)} {
		data, err := os.ReadFile(path)
		if err != nil {
			return "", err
		}
		fmt.Fprintf(all, "%d\n%s", len(data), data)
	}
	version, err := l.image.version(ctx)
	if err != nil {
		return "", err
	}
	fmt.Fprint(all, version, Options{QEMU: l.image.qemu, Segment: "segment"}.CommandLine())
	return filepath.Join(l.image.snapshots(), fmt.Sprintf("%s-%x", kernel, all.Sum(nil)[:8])), nil
}

// makeSnapshot boots a machine with an empty disk and saves it in dir. It returns the
// frequency, as it is in the file "hz". Others of that kernel are removed.
func (l *Lab) makeSnapshot(ctx context.Context, kernel, dir string) ([]byte, error) {
	began := time.Now()
	m, err := l.bare(kernel)
	if err != nil {
		return nil, err
	}
	defer m.PowerOff()
	work, err := os.MkdirTemp(l.image.snapshots(), ".making-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(work)
	if err := m.boot(ctx, false, func(ctx context.Context) error { return m.save(ctx, filepath.Join(work, "state")) }); err != nil {
		return nil, err
	}
	hz := strconv.AppendInt(nil, m.hz, 10)
	if err := os.WriteFile(filepath.Join(work, "hz"), hz, 0o644); err != nil {
		return nil, err
	}
	old, err := filepath.Glob(filepath.Join(l.image.snapshots(), kernel+"-*"))
	for _, each := range old {
		err = errors.Join(err, os.RemoveAll(each))
	}
	if err := errors.Join(err, os.Rename(work, dir)); err != nil {
		return nil, err
	}
	l.say("kernel %s booted and saved in %v", kernel, time.Since(began).Round(10*time.Millisecond))
	return hz, nil
}

// bare makes a machine with nothing on its disk.
func (l *Lab) bare(kernel string) (*Machine, error) {
	m := &Machine{Name: "bare-" + kernel, Kernel: kernel, number: 98, lab: l, dir: filepath.Join(l.Dir, "bare-"+kernel)}
	if err := os.MkdirAll(m.dir, 0o755); err != nil {
		return nil, err
	}
	l.add(m)
	return m, os.WriteFile(m.disk(), make([]byte, 1<<20), 0o644)
}

// save stops the machine for good and writes its state to a file.
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

// copyOlder writes the snapshot to a file, with MONOTONIC and BOOTTIME put forward. No
// system call sets these clocks, and a time namespace around everything would not be
// what a machine with a long uptime is. But they count the processor's time stamp
// counter, and that is part of what QEMU saves.
func (s Snapshot) copyOlder(path string, by time.Duration) error {
	data, err := os.ReadFile(s.state)
	if err != nil {
		return err
	}
	if err := turnForward(data, int64(by.Seconds()*float64(s.hz))); err != nil {
		return err
	}
	return os.WriteFile(path, data, 0o600)
}

// timerSection begins what QEMU saves of its clocks: the name with its length before
// it, instance 0, version 2 (vmstate_timers in system/cpu-timers.c of QEMU 7.2 to 11).
// The counter of a stopped machine follows in 8 bytes.
var timerSection = []byte("\x05timer\x00\x00\x00\x00\x00\x00\x00\x02")

// turnForward changes the time stamp counter in a saved machine. QEMU's own clocks
// stay, so no timer of a device is late.
func turnForward(data []byte, ticks int64) error {
	at := bytes.Index(data, timerSection)
	if at < 0 || at != bytes.LastIndex(data, timerSection) || len(data) < at+len(timerSection)+8 {
		return errors.New("the clocks are not found in the saved machine: this QEMU saves them in another way")
	}
	counter := data[at+len(timerSection):][:8]
	binary.BigEndian.PutUint64(counter, binary.BigEndian.Uint64(counter)+uint64(ticks))
	return nil
}
