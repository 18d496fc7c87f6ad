//go:build linux

package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

type mount struct {
	source, target, kind string
	flags                uintptr
	data                 string
}

// early makes the disk appear: its driver is a module that lies beside us.
func early() error {
	for _, m := range []mount{{"dev", "/dev", "devtmpfs", 0, ""}, {"proc", "/proc", "proc", 0, ""}, {"sys", "/sys", "sysfs", 0, ""}} {
		if err := m.do(); err != nil {
			return err
		}
	}
	f, err := os.Open("/virtio_blk.ko")
	if err != nil {
		return err
	}
	defer f.Close()
	if err := unix.FinitModule(int(f.Fd()), "", 0); err != nil {
		return fmt.Errorf("load virtio_blk: %w", err)
	}
	return mountDisk("/dev/vda", "/disk", 5*time.Second)
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

// modules that a node needs and that nothing loads by itself in time. CRIU has
// modprobe load more.
var modules = strings.Fields("virtio_net veth bridge tun unix_diag tcp_diag udp_diag raw_diag inet_diag af_packet_diag netlink_diag nf_tables")

// links brings the network up: eth0 is the way to the tests, eth1 the segment.
func links() error {
	if err := run("modprobe", append([]string{"-a"}, modules...)...); err != nil {
		return err
	}
	return batch(
		"link set lo up",
		"addr add 10.0.2.15/24 dev eth0",
		"link set eth0 up",
		"link add br0 type bridge",
		"link set eth1 master br0",
		"link set eth1 up",
		"link set br0 up")
}

// batch gives ip several commands at once: each program that starts costs time.
func batch(lines ...string) error {
	cmd := exec.Command("ip", "-batch", "-")
	cmd.Stdin = strings.NewReader(strings.Join(lines, "\n") + "\n")
	return finish(cmd)
}

func run(name string, args ...string) error { return finish(exec.Command(name, args...)) }

func finish(cmd *exec.Cmd) error {
	cmd.Env = environment(nil)
	if text, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w: %s", cmd, err, text)
	}
	return nil
}
