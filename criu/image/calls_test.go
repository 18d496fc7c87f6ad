package image

import (
	"encoding/binary"
	"path/filepath"
	"slices"
	"testing"

	core_x86 "github.com/checkpoint-restore/go-criu/v7/crit/images/core-x86"
	criu_core "github.com/checkpoint-restore/go-criu/v7/crit/images/criu-core"
	criu_sa "github.com/checkpoint-restore/go-criu/v7/crit/images/criu-sa"
	"github.com/checkpoint-restore/go-criu/v7/crit/images/pstree"
	"github.com/checkpoint-restore/go-criu/v7/crit/images/siginfo"
	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// coreOf is what CRIU saves of a thread in a call with this result.
func coreOf(result int64, number uint64) *criu_core.CoreEntry {
	info := &core_x86.ThreadInfoX86{}
	fillRequired(info.ProtoReflect())
	regs := info.Gpregs
	regs.Ax, regs.OrigAx, regs.Ip = proto.Uint64(uint64(result)), proto.Uint64(number), proto.Uint64(0x402)
	regs.Di, regs.Si, regs.Dx, regs.R10 = proto.Uint64(1), proto.Uint64(2), proto.Uint64(3), proto.Uint64(4)
	return &criu_core.CoreEntry{
		Mtype:      criu_core.CoreEntry_X86_64.Enum(),
		ThreadInfo: info,
		ThreadCore: &criu_core.ThreadCoreEntry{FutexRla: proto.Uint64(0), FutexRlaLen: proto.Uint32(0)},
	}
}

// fillRequired gives a message all fields that it must have, empty ones.
func fillRequired(m protoreflect.Message) {
	fields := m.Descriptor().Fields()
	for i := range fields.Len() {
		f := fields.Get(i)
		switch {
		case f.Cardinality() != protoreflect.Required:
		case f.Message() != nil:
			fillRequired(m.Mutable(f).Message())
		default:
			m.Set(f, m.NewField(f))
		}
	}
}

func writeCores(t *testing.T, pid uint32, cores map[uint32]*criu_core.CoreEntry) (dir string) {
	t.Helper()
	dir = t.TempDir()
	tree := &pstree.PstreeEntry{Pid: proto.Uint32(pid), Ppid: proto.Uint32(0), Pgid: proto.Uint32(pid), Sid: proto.Uint32(pid), Threads: []uint32{pid}}
	for tid, core := range cores {
		if tid != pid {
			tree.Threads = append(tree.Threads, tid)
		}
		body, err := proto.Marshal(core)
		if err != nil {
			t.Fatal(err)
		}
		writeImage(t, corePath(dir, tid), magicCore, body)
	}
	body, err := proto.Marshal(tree)
	if err != nil {
		t.Fatal(err)
	}
	writeImage(t, filepath.Join(dir, "pstree.img"), magicPstree, body)
	return dir
}

// leaderOf has a handler for SIGUSR1, ignores SIGUSR2, and blocks SIGTERM.
func leaderOf(core *criu_core.CoreEntry) *criu_core.CoreEntry {
	core.Tc = &criu_core.TaskCoreEntry{TaskState: proto.Uint32(1), ExitCode: proto.Uint32(0), Personality: proto.Uint32(0), Flags: proto.Uint32(0), Comm: proto.String("x"), BlkSigset: proto.Uint64(1 << (unix.SIGTERM - 1))}
	for number := 1; number <= 64; number++ {
		if number == int(unix.SIGKILL) || number == int(unix.SIGSTOP) {
			continue
		}
		action := uint64(0)
		switch number {
		case int(unix.SIGUSR1), int(unix.SIGTERM):
			action = 0x1000
		case int(unix.SIGUSR2):
			action = 1
		}
		core.Tc.Sigactions = append(core.Tc.Sigactions, &criu_sa.SaEntry{Sigaction: &action, Flags: proto.Uint64(0), Restorer: proto.Uint64(0), Mask: proto.Uint64(0)})
	}
	return core
}

func waiting(signal unix.Signal) *siginfo.SignalQueueEntry {
	return &siginfo.SignalQueueEntry{Signals: []*siginfo.SiginfoEntry{{Siginfo: binary.LittleEndian.AppendUint32(nil, uint32(signal))}}}
}

func TestOnlyCallsThatWereInterruptedGoOn(t *testing.T) {
	const eintr = -int64(unix.EINTR)
	compat := coreOf(eintr, unix.SYS_POLL)
	compat.ThreadInfo.Gpregs.Mode = core_x86.UserX86RegsMode_COMPAT.Enum()
	dir := writeCores(t, 5, map[uint32]*criu_core.CoreEntry{
		5: leaderOf(coreOf(0, unix.SYS_POLL)), 6: coreOf(eintr, unix.SYS_POLL), 7: coreOf(eintr, ^uint64(0)), 8: compat, 9: coreOf(eintr, unix.SYS_CLOSE),
	})
	var seen []int
	err := EditCalls(dir, func(c Call) *Again {
		seen = append(seen, c.Thread)
		if c.Number != unix.SYS_POLL {
			return nil
		}
		if want := (Call{Thread: 6, Number: unix.SYS_POLL, Args: [4]uint64{1, 2, 3, 4}, IP: 0x402}); c != want {
			t.Errorf("shown %+v", c)
		}
		return &Again{Number: unix.SYS_PAUSE, Args: [4]uint64{9, 8, 7, 6}}
	})
	slices.Sort(seen)
	if err != nil || !slices.Equal(seen, []int{6, 9}) {
		t.Errorf("threads %v were shown, %v", seen, err)
	}
	core, err := readCore(corePath(dir, 6))
	if err != nil {
		t.Fatal(err)
	}
	regs := core.GetThreadInfo().GetGpregs()
	if got := []uint64{regs.GetAx(), regs.GetIp(), regs.GetDi(), regs.GetSi(), regs.GetDx(), regs.GetR10()}; !slices.Equal(got, []uint64{unix.SYS_PAUSE, 0x400, 9, 8, 7, 6}) {
		t.Errorf("the thread goes on with registers %x", got)
	}
	if core, err := readCore(corePath(dir, 9)); err != nil || int64(core.GetThreadInfo().GetGpregs().GetAx()) != eintr {
		t.Errorf("a call that is left alone: %v, %v", core, err)
	}
}

func TestASignalWithAHandlerEndsTheCallForWhichItWaits(t *testing.T) {
	for name, c := range map[string]struct {
		private, shared *siginfo.SignalQueueEntry
		mask            uint64
		awaited         bool
	}{
		"none":                         {},
		"handled":                      {private: waiting(unix.SIGUSR1), awaited: true},
		"handled, for any thread":      {shared: waiting(unix.SIGUSR1), awaited: true},
		"ignored":                      {private: waiting(unix.SIGUSR2)},
		"without a handler":            {private: waiting(unix.SIGCHLD)},
		"blocked by the thread":        {private: waiting(unix.SIGUSR1), mask: 1 << (unix.SIGUSR1 - 1)},
		"blocked by the leader only":   {shared: waiting(unix.SIGTERM), awaited: true},
		"one that no image should say": {private: waiting(77), awaited: true},
		"cut short":                    {private: &siginfo.SignalQueueEntry{Signals: []*siginfo.SiginfoEntry{{Siginfo: []byte{1}}}}, awaited: true},
	} {
		leader, thread := leaderOf(coreOf(0, 0)), coreOf(-int64(unix.EINTR), unix.SYS_POLL)
		thread.ThreadCore.SignalsP, leader.Tc.SignalsS, thread.ThreadCore.BlkSigset = c.private, c.shared, &c.mask
		dir := writeCores(t, 5, map[uint32]*criu_core.CoreEntry{5: leader, 6: thread})
		shown := false
		err := EditCalls(dir, func(call Call) *Again {
			shown = true
			if call.Awaited != c.awaited {
				t.Errorf("%s: awaited %v", name, call.Awaited)
			}
			return nil
		})
		if err != nil || !shown {
			t.Errorf("%s: shown %v, %v", name, shown, err)
		}
	}
}
