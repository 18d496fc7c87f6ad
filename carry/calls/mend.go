package calls

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/migrate-hpc/migrate/carry"
	"github.com/migrate-hpc/migrate/criu/image"
	"github.com/migrate-hpc/migrate/durable"
	"github.com/migrate-hpc/migrate/inject"
)

type threads = map[int]*inject.Thread

// fileName is that of the note of what is to be mended.
const fileName = "migrate-calls.json"

// maxFile bounds that note, in bytes: that of a million threads.
const maxFile = 256 << 20

// mend is an interrupted call of a thread, and how it goes on.
type mend struct {
	Thread int         `json:"thread"` // in the job
	Number uint64      `json:"call"`   // as the thread's registers have it
	IP     uint64      `json:"ip"`
	Again  image.Again `json:"again"`
	// Need is the argument that must point to a timespec of Left, noArg for none.
	Need int           `json:"need"`
	Left time.Duration `json:"left"` // in nanoseconds
}

func writeMends(images string, list []mend) error {
	data, err := json.Marshal(list)
	if err != nil {
		return err
	}
	return durable.WriteFile(filepath.Join(images, fileName), data, 0o600)
}

func readMends(images string) (list []mend, err error) {
	data, err := image.ReadBounded(filepath.Join(images, fileName), maxFile)
	if errors.Is(err, image.ErrMissing) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if err := json.Unmarshal(data, &list); err != nil {
		return nil, fmt.Errorf("%s: %w: %w", fileName, image.ErrFormat, err)
	}
	for _, m := range list {
		if m.Thread <= 0 || m.Need < noArg || m.Need >= len(m.Again.Args) || m.Left < 0 || !mayRepeat(m.Again.Number) {
			return nil, fmt.Errorf("%s: %w: thread %d", fileName, image.ErrFormat, m.Thread)
		}
	}
	return list, nil
}

// mendAll has calls go on.
func mendAll(list []mend, stopped threads) error {
	var errs []error
	for _, m := range list {
		if t, ok := stopped[m.Thread]; ok {
			errs = append(errs, m.apply(t))
		}
	}
	return errors.Join(errs...)
}

// apply has a thread go on with its call. One that is elsewhere by now is left alone.
func (m mend) apply(t *inject.Thread) error {
	regs, err := t.Regs()
	if err != nil || !m.isIn(regs) {
		return err
	}
	result := int64(-restartNoHandler)
	if m.Need != noArg {
		if result, err = m.begin(t); err != nil {
			return err
		}
	}
	regs.Rax, regs.Orig_rax = uint64(result), m.Again.Number
	a := m.Again.Args
	regs.Rdi, regs.Rsi, regs.Rdx, regs.R10 = a[0], a[1], a[2], a[3]
	return t.SetRegs(regs)
}

// begin has the thread make the call with what is left of its limit, and interrupts it. The kernel then
// knows when it ends, and needs no memory of the program's. It returns what the call returns.
func (m mend) begin(t *inject.Thread) (int64, error) {
	const page = 4096
	scratch, err := t.Syscall(unix.SYS_MMAP, 0, page, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS, ^uint64(0), 0)
	if err != nil {
		return 0, fmt.Errorf("memory for a limit of thread %d: %w", t.TID, err)
	}
	err = writeTimespec(t.TID, scratch, m.Left)
	result := int64(-restartNoHandler)
	if err == nil {
		args := m.Again.Args
		args[m.Need] = scratch
		result, err = t.Interrupted(uintptr(m.Again.Number), args[:]...)
	}
	_, unmapped := t.Syscall(unix.SYS_MUNMAP, scratch, page)
	return result, errors.Join(err, unmapped)
}

// isIn tells whether the thread is where the call has been interrupted. After rt_sigreturn(2), by which
// CRIU starts a thread, the kernel knows of no call.
func (m mend) isIn(regs unix.PtraceRegs) bool {
	result, number := int64(regs.Rax), int64(regs.Orig_rax)
	return regs.Rip == m.IP && (number == int64(m.Number) || number == -1) &&
		(result == -int64(unix.EINTR) || result == -restartBlock && number != -1)
}

// restartBlock is ERESTART_RESTARTBLOCK: the kernel would go on by restart_syscall(2), and the next look
// would not see which call that is.
const restartBlock = 516

// restartNoHandler is ERESTARTNOHAND: a signal that has a handler makes EINTR of it.
const restartNoHandler = 514

// writeTimespec writes a time into the memory of a thread.
func writeTimespec(tid int, addr uint64, d time.Duration) error {
	var raw [16]byte
	binary.LittleEndian.PutUint64(raw[:], uint64(d/time.Second))
	binary.LittleEndian.PutUint64(raw[8:], uint64(d%time.Second))
	local := []unix.Iovec{{Base: &raw[0], Len: uint64(len(raw))}}
	n, err := unix.ProcessVMWritev(tid, local, []unix.RemoteIovec{{Base: uintptr(addr), Len: len(raw)}}, 0)
	if err == nil && n != len(raw) {
		err = unix.EFAULT
	}
	if err != nil {
		return fmt.Errorf("memory of thread %d: %w", tid, err)
	}
	return nil
}

type restorer struct {
	carry.NoRestorer
	images string
	list   []mend
}

// NewRestorer is the half of the node that a job comes to.
func NewRestorer(e carry.Env) carry.Restorer { return &restorer{images: e.Images} }

// Prepare reads what the source has noted.
func (r *restorer) Prepare() (err error) {
	r.list, err = readMends(r.images)
	return err
}

// Threads are those whose call has its limit in memory.
func (r *restorer) Threads() (list []int) {
	for _, m := range r.list {
		list = append(list, m.Thread)
	}
	return list
}

// Mend has the calls go on here.
func (r *restorer) Mend(stopped threads) error { return mendAll(r.list, stopped) }
