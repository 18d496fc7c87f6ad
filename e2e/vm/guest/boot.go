//go:build linux

package main

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/migrate-hpc/migrate/e2e/vm/guest/api"
)

type mount struct {
	source, target, kind string
	flags                uintptr
	data                 string
}

// early is all that can be done before the disk is touched. The modules lie beside us,
// in the order of their names.
func early() error {
	for _, m := range []mount{{"dev", "/dev", "devtmpfs", 0, ""}, {"proc", "/proc", "proc", 0, ""}, {"sys", "/sys", "sysfs", 0, ""}} {
		if err := m.do(); err != nil {
			return err
		}
	}
	modules, err := filepath.Glob("/early/*.ko")
	if err != nil {
		return err
	}
	for _, path := range modules {
		if err := load(path); err != nil {
			return err
		}
	}
	return nil
}

func load(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := unix.FinitModule(int(f.Fd()), "", 0); err != nil && !errors.Is(err, unix.ENODEV) { // a driver for what this processor lacks
		return fmt.Errorf("load %s: %w", path, err)
	}
	return nil
}

// await says on the console that the kernel has booted and waits for a line there. In
// between the machine may have been saved, and this may be a copy of it.
func await() error {
	hz, err := counterFrequency()
	if err != nil {
		return err
	}
	fmt.Printf("%s%d\n", api.Booted, hz)
	_, err = bufio.NewReader(os.Stdin).ReadString('\n')
	return err
}

// counterFrequency is what the kernel has measured for the time stamp counter, in Hz.
func counterFrequency() (int64, error) {
	text, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		return 0, err
	}
	_, after, _ := strings.Cut(string(text), "cpu MHz")
	_, after, _ = strings.Cut(after, ":")
	value, _, _ := strings.Cut(after, "\n")
	mhz, err := strconv.ParseFloat(strings.TrimSpace(value), 64)
	if err != nil {
		return 0, fmt.Errorf("frequency of the counter: %w", err)
	}
	return int64(mhz * 1e6), nil
}

// disk makes the disk appear.
func disk() error {
	if err := load("/virtio_blk.ko"); err != nil {
		return err
	}
	return mountDisk("/dev/vda", "/disk", time.Minute)
}

func mountDisk(device, at string, most time.Duration) error {
	if err := os.MkdirAll(at, 0o755); err != nil {
		return err
	}
	for end := time.Now().Add(most); ; time.Sleep(5 * time.Millisecond) {
		err := unix.Mount(device, at, "ext4", unix.MS_NOATIME, "")
		if err == nil {
			return nil
		}
		if !errors.Is(err, unix.ENOENT) && !errors.Is(err, unix.ENXIO) || time.Now().After(end) {
			return fmt.Errorf("mount %s: %w", device, err)
		}
	}
}

// switchRoot makes the disk the root. What lies in the RAM disk stays there, for
// the program's own file is in it.
func switchRoot() error {
	for _, dir := range []string{"/dev", "/proc", "/sys"} {
		if err := unix.Mount(dir, "/disk"+dir, "", unix.MS_MOVE, ""); err != nil {
			return fmt.Errorf("move %s: %w", dir, err)
		}
	}
	if err := unix.Chdir("/disk"); err != nil {
		return err
	}
	if err := unix.Mount(".", "/", "", unix.MS_MOVE, ""); err != nil {
		return fmt.Errorf("move the root: %w", err)
	}
	return errors.Join(unix.Chroot("."), unix.Chdir("/"))
}

// mounts are those of an ordinary node with cgroup version 2 and nothing else.
func mounts() error {
	const safe = unix.MS_NOSUID | unix.MS_NODEV
	for _, m := range []mount{
		{"", "/", "", unix.MS_REC | unix.MS_SHARED, ""}, // as systemd leaves it
		{"run", "/run", "tmpfs", safe, "mode=755"},
		{"tmp", "/tmp", "tmpfs", safe, "mode=1777"},
		{"devpts", "/dev/pts", "devpts", unix.MS_NOSUID | unix.MS_NOEXEC, "ptmxmode=666,mode=620"},
		{"shm", "/dev/shm", "tmpfs", safe, "mode=1777"},
		{"mqueue", "/dev/mqueue", "mqueue", safe, ""},
		{"cgroup", "/sys/fs/cgroup", "cgroup2", safe | unix.MS_NOEXEC, "nsdelegate,memory_recursiveprot"},
		{"debugfs", "/sys/kernel/debug", "debugfs", safe, ""},
	} {
		if err := m.do(); err != nil {
			return err
		}
	}
	return nil
}

func (m mount) do() error {
	if strings.HasPrefix(m.target, "/dev/") {
		if err := os.MkdirAll(m.target, 0o755); err != nil {
			return err
		}
	}
	if err := os.MkdirAll(m.target, 0o755); err != nil {
		return err
	}
	if err := unix.Mount(m.source, m.target, m.kind, m.flags, m.data); err != nil {
		return fmt.Errorf("mount %s: %w", m.target, err)
	}
	return nil
}

// links opens eth0, the way to the tests. The segment comes with the configuration:
// machines out of one snapshot have the same hardware address until then.
func links() error {
	return batch("link set lo up", "addr add 10.0.2.15/24 dev eth0", "link set eth0 up")
}

// segment brings up eth1 as a port of a bridge that has the address.
func segment(mac, address string) error {
	return batch(
		"link set eth1 address "+mac,
		"link add br0 address "+mac+" type bridge",
		"link set eth1 master br0",
		"addr add "+address+" dev br0",
		"link set eth1 up",
		"link set br0 up")
}

// batch gives ip several commands at once: each program that starts costs time.
func batch(lines ...string) error {
	cmd := exec.Command("ip", "-batch", "-")
	cmd.Stdin = strings.NewReader(strings.Join(lines, "\n") + "\n")
	cmd.Env = environment(nil)
	if text, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w: %s", cmd, err, text)
	}
	return nil
}
