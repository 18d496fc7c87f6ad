package image

import (
	"encoding/binary"
	"errors"
	"os"

	core_x86 "github.com/checkpoint-restore/go-criu/v7/crit/images/core-x86"
	criu_core "github.com/checkpoint-restore/go-criu/v7/crit/images/criu-core"
	criu_sa "github.com/checkpoint-restore/go-criu/v7/crit/images/criu-sa"
	"github.com/migrate-hpc/migrate/parallel"
	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/proto"
)

// Call is a system call that was interrupted when CRIU stopped its thread, and that the thread
// would see fail with EINTR.
type Call struct {
	Thread int // in the job
	Number uint64
	// Args are the first four arguments, as the registers have them.
	Args [4]uint64
	// IP is the address behind the system call instruction.
	IP uint64
	// Filtered tells that a seccomp filter judges the calls of the thread.
	Filtered bool
	// Awaited tells that a signal waits which has a handler: EINTR is right.
	Awaited bool
}

// Again has the thread make a call with these arguments instead of seeing EINTR. Call.Number is the
// same call.
type Again struct {
	Number uint64    `json:"call"`
	Args   [4]uint64 `json:"args"`
}

// EditCalls shows each interrupted call to edit, and has the thread go on with what edit returns;
// nil leaves it. CRIU itself has only those calls made again of which the kernel says that any signal
// would. 32-bit tasks are left alone.
func EditCalls(dir string, edit func(Call) *Again) error {
	all, err := threads(dir)
	if err != nil {
		return err
	}
	found := make([]*criu_core.CoreEntry, len(all))
	err = parallel.Each(len(all), func(i int) error {
		core, err := readCore(corePath(dir, all[i].tid))
		if errors.Is(err, ErrMissing) {
			return nil
		}
		if _, ok := interrupted(core); ok || core.GetTc() != nil {
			found[i] = core
		}
		return err
	})
	if err != nil {
		return err
	}
	var leader *criu_core.CoreEntry
	for i, core := range found {
		if core.GetTc() != nil {
			leader = core // the main thread comes first
		}
		call, ok := interrupted(core)
		if !ok {
			found[i] = nil
			continue
		}
		call.Thread, call.Awaited = int(all[i].tid), awaited(leader, core)
		again := edit(call)
		if again == nil {
			found[i] = nil
			continue
		}
		again.apply(core.GetThreadInfo().GetGpregs())
	}
	return parallel.Each(len(all), func(i int) error {
		if found[i] == nil {
			return nil
		}
		return writeCore(corePath(dir, all[i].tid), found[i])
	})
}

// interrupted reads the call that a thread would see fail with EINTR, if there is one.
func interrupted(core *criu_core.CoreEntry) (c Call, ok bool) {
	regs := core.GetThreadInfo().GetGpregs()
	if regs == nil || regs.GetMode() != core_x86.UserX86RegsMode_NATIVE ||
		int64(regs.GetAx()) != -int64(unix.EINTR) || int64(regs.GetOrigAx()) < 0 {
		return c, false
	}
	return Call{
		Number: regs.GetOrigAx(), IP: regs.GetIp(),
		Args:     [4]uint64{regs.GetDi(), regs.GetSi(), regs.GetDx(), regs.GetR10()},
		Filtered: core.GetThreadCore().GetSeccompMode() != criu_core.SeccompMode_disabled,
	}, true
}

func (a Again) apply(regs *core_x86.UserX86RegsEntry) {
	regs.Ax, regs.Ip = proto.Uint64(a.Number), proto.Uint64(regs.GetIp()-syscallSize)
	regs.Di, regs.Si, regs.Dx, regs.R10 = &a.Args[0], &a.Args[1], &a.Args[2], &a.Args[3]
}

// awaited tells whether a signal waits for the thread that has a handler and is not blocked. A
// thread whose process shares its handlers with another one has none in the image.
func awaited(leader, core *criu_core.CoreEntry) bool {
	blocked := core.GetThreadCore().GetBlkSigset()
	if core == leader {
		blocked = core.GetTc().GetBlkSigset()
	}
	waiting := append(core.GetThreadCore().GetSignalsP().GetSignals(), leader.GetTc().GetSignalsS().GetSignals()...)
	for _, s := range waiting {
		info := s.GetSiginfo()
		if len(info) < 4 {
			return true
		}
		number := binary.LittleEndian.Uint32(info)
		if number == 0 || number > 64 || blocked&(1<<(number-1)) == 0 && handled(leader.GetTc().GetSigactions(), number) {
			return true
		}
	}
	return false
}

// handled tells whether a signal has a handler. CRIU saves no actions for the two signals that can
// have none.
func handled(actions []*criu_sa.SaEntry, number uint32) bool {
	i := int(number) - 1
	for _, none := range []uint32{uint32(unix.SIGKILL), uint32(unix.SIGSTOP)} {
		if number == none {
			return false
		}
		if number > none {
			i--
		}
	}
	const byDefault, ignored = 0, 1
	return i >= len(actions) || actions[i].GetSigaction() != byDefault && actions[i].GetSigaction() != ignored
}

func writeCore(name string, core *criu_core.CoreEntry) error {
	body, err := proto.Marshal(core)
	if err != nil {
		return err
	}
	out := binary.LittleEndian.AppendUint32(nil, magicCommon)
	out = binary.LittleEndian.AppendUint32(out, magicCore)
	//house:allow os.WriteFile: a job can have thousands of them, in a tmpfs, and a dump that is cut short is made anew
	return os.WriteFile(name, appendRecord(out, body), filePerm)
}

// syscallSize is that of the instruction that makes a system call, in bytes.
const syscallSize = 2
