package vm

import (
	"fmt"
	"path/filepath"
	"strconv"

	"github.com/migrate-hpc/migrate/e2e/vm/guest/api"
)

// Options are one machine. The zero value of a field that does not say otherwise
// leaves its device out.
type Options struct {
	Name      string
	QEMU      string // the program
	KVM       bool   // else TCG
	Kernel    string // vmlinuz
	RAMDisk   string
	Disk      string // raw; written to
	MemoryMiB int    // 0 = 1024
	Dir       string // for sockets and the serial log
	AgentPort int    // on 127.0.0.1, leads to the agent in the guest
	MAC       string // of the interface on the segment
	Segment   string // unix socket of the segment's port
	Incoming  string // file with the state of a machine to go on with, see Snapshot
}

func (o Options) monitor() string   { return filepath.Join(o.Dir, "qmp") }
func (o Options) console() string   { return filepath.Join(o.Dir, "console") }
func (o Options) serialLog() string { return filepath.Join(o.Dir, "serial.log") }

// kernelLine turns off what costs time under TCG. A panic ends QEMU. The kernel
// trusts the time stamp counter, and has no watchdog, because where a snapshot is used
// the counter jumps.
const kernelLine = "console=ttyS0 quiet mitigations=off panic=-1 nowatchdog tsc=reliable random.trust_cpu=on rdinit=/guest"

// CommandLine is the one that starts the machine. It depends on nothing but the
// options.
func (o Options) CommandLine() []string {
	memory := o.MemoryMiB
	if memory == 0 {
		memory = 1024
	}
	args := append([]string{o.QEMU, "-name", o.Name}, o.processor()...)
	args = append(args,
		"-m", strconv.Itoa(memory), "-smp", "1",
		"-nodefaults", "-no-user-config", "-display", "none", "-no-reboot",
		"-kernel", o.Kernel, "-initrd", o.RAMDisk, "-append", kernelLine,
		// What the guest has flushed is in QEMU's file then: killing QEMU loses what a
		// power cut loses and no more.
		"-drive", "if=none,id=disk,format=raw,cache=unsafe,file="+o.Disk,
		"-device", "virtio-blk-pci,drive=disk",
		"-device", "virtio-rng-pci",
		"-chardev", "socket,id=serial,server=on,wait=off,path="+o.console()+",logfile="+o.serialLog()+",logappend=on", "-serial", "chardev:serial",
		"-qmp", "unix:"+o.monitor()+",server=on,wait=off",
		"-netdev", fmt.Sprintf("user,id=way,restrict=on,hostfwd=tcp:127.0.0.1:%d-:%d", o.AgentPort, api.Port),
		"-device", "virtio-net-pci,netdev=way,romfile=")
	if o.Segment != "" {
		args = append(args,
			"-netdev", "stream,id=segment,server=off,addr.type=unix,addr.path="+o.Segment,
			"-device", "virtio-net-pci,netdev=segment,romfile=,mac="+o.MAC)
	}
	if o.Incoming != "" {
		args = append(args, "-incoming", "exec:cat "+o.Incoming)
	}
	return args
}

// processor: with cmpxchg16b emulated, one boot in ten ended in a double fault
// (QEMU 7.2 and 10.0).
func (o Options) processor() []string {
	if o.KVM {
		return []string{"-machine", "q35", "-accel", "kvm", "-cpu", "host"}
	}
	return []string{"-machine", "q35", "-accel", "tcg,thread=multi,tb-size=256", "-cpu", "max,cx16=off"}
}
