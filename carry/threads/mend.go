package threads

import (
	"errors"
	"fmt"
	"slices"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/migrate-hpc/migrate/affinity"
	"github.com/migrate-hpc/migrate/inject"
)

// System calls and their arguments that package unix does not know.
const (
	sysMseal = 462

	prSetMemoryMerge = 67
	mlockOnFault     = 1
)

// Threads are those with something that only they can set.
func (r *restorer) Threads() (list []int) {
	for _, t := range r.saved.Threads {
		if r.saved.Attrs[t[2]].fromWithin() {
			list = append(list, t[1])
		}
	}
	for _, p := range r.saved.Processes {
		if p.fromWithin() {
			list = append(list, p.PID)
		}
	}
	return list
}

// Mend has them set it. The job runs on without what fails.
func (r *restorer) Mend(stopped map[int]*inject.Thread) error {
	var errs []error
	spare := scratches{}
	for _, t := range r.saved.Threads {
		if thread, ok := stopped[t[1]]; ok {
			spare.of(t[0], thread).join(thread)
			errs = append(errs, r.mendThread(thread, r.saved.Attrs[t[2]], spare.of(t[0], thread)))
		}
	}
	for _, p := range r.saved.Processes {
		if thread, ok := stopped[p.PID]; ok {
			errs = append(errs, r.mendProcess(thread, p, spare.of(p.PID, thread)))
		}
	}
	if err := errors.Join(append(errs, spare.close())...); err != nil {
		return fmt.Errorf("attributes of the job's threads: %w", err)
	}
	return nil
}

// setsPolicies tells whether the node has nodes of memory, and policies are wanted.
func (r *restorer) setsPolicies() bool {
	return r.nodes.Mode != affinity.Drop && !r.nodes.Given.Empty()
}

func (r *restorer) mendThread(t *inject.Thread, a attrs, mem *scratch) error {
	var errs []error
	call := func(number uintptr, args ...uint64) {
		if _, err := t.Syscall(number, args...); err != nil {
			errs = append(errs, fmt.Errorf("system call %d of thread %d: %w", number, t.TID, err))
		}
	}
	if a.Personality != 0 {
		call(unix.SYS_PERSONALITY, uint64(a.Personality))
	}
	if a.MCE != 0 {
		call(unix.SYS_PRCTL, unix.PR_MCE_KILL, unix.PR_MCE_KILL_SET, uint64(a.MCE-mceLate), 0, 0)
	}
	if a.Policy != (policy{}) && r.setsPolicies() {
		mask, size, err := mem.nodes(r.nodes.Place(a.Policy.Nodes))
		if err != nil {
			return errors.Join(append(errs, err)...)
		}
		call(unix.SYS_SET_MEMPOLICY, uint64(a.Policy.Mode), mask, size)
	}
	return errors.Join(errs...)
}

func (r *restorer) mendProcess(t *inject.Thread, p process, mem *scratch) error {
	var errs []error
	call := func(number uintptr, args ...uint64) {
		if _, err := t.Syscall(number, args...); err != nil {
			errs = append(errs, fmt.Errorf("system call %d of process %d: %w", number, p.PID, err))
		}
	}
	if p.MergeAny {
		call(unix.SYS_PRCTL, prSetMemoryMerge, 1, 0, 0, 0)
	}
	for _, a := range p.Areas {
		if a.Policy != (policy{}) && r.setsPolicies() {
			mask, bits, err := mem.nodes(r.nodes.Place(a.Policy.Nodes))
			if err != nil {
				errs = append(errs, err)
				continue
			}
			call(unix.SYS_MBIND, a.Start, a.size(), uint64(a.Policy.Mode), mask, bits, 0)
		}
		if a.LockOnFault {
			call(unix.SYS_MLOCK2, a.Start, a.size(), mlockOnFault)
		}
	}
	for _, a := range p.Areas { // what is sealed takes no other change
		if a.Sealed {
			call(sysMseal, a.Start, a.size(), 0)
		}
	}
	return errors.Join(errs...)
}

// scratch is memory of a process for what a system call reads. It is made when it is needed.
type scratch struct {
	thread *inject.Thread // of the process
	addr   uint64         // 0: not made yet
}

// scratches are those of processes, by their numbers in the job.
type scratches map[int]*scratch

func (all scratches) of(pid int, t *inject.Thread) *scratch {
	if all[pid] == nil {
		all[pid] = &scratch{thread: t}
	}
	return all[pid]
}

// join tells a thread of the process what is known of that.
func (s *scratch) join(t *inject.Thread) {
	if t != s.thread {
		t.SameProcess(s.thread)
	}
}

func (all scratches) close() error {
	var errs []error
	for _, s := range all {
		if s.addr == 0 {
			continue
		}
		if _, err := s.thread.Syscall(unix.SYS_MUNMAP, s.addr, pageSize); err != nil {
			errs = append(errs, fmt.Errorf("a page is left in the process of thread %d: %w", s.thread.TID, err))
		}
	}
	return errors.Join(errs...)
}

// nodes puts a set of nodes there, as set_mempolicy(2) takes it with the number of its bits.
func (s *scratch) nodes(set affinity.Set) (addr, bits uint64, err error) {
	if set.Empty() {
		return 0, 0, nil
	}
	if s.addr == 0 {
		const anonymous = unix.MAP_PRIVATE | unix.MAP_ANONYMOUS
		if s.addr, err = s.thread.Syscall(unix.SYS_MMAP, 0, pageSize, unix.PROT_READ|unix.PROT_WRITE, anonymous, ^uint64(0), 0); err != nil {
			return 0, 0, fmt.Errorf("memory in the process of thread %d: %w", s.thread.TID, err)
		}
	}
	words := slices.Clone(set[:maxNodes/64])
	size := maxNodes / 8
	local := []unix.Iovec{{Base: (*byte)(unsafe.Pointer(&words[0])), Len: uint64(size)}}
	n, err := unix.ProcessVMWritev(s.thread.TID, local, []unix.RemoteIovec{{Base: uintptr(s.addr), Len: size}}, 0)
	if err == nil && n != size {
		err = unix.EFAULT
	}
	if err != nil {
		return 0, 0, fmt.Errorf("memory of thread %d: %w", s.thread.TID, err)
	}
	return s.addr, maxNodes + 1, nil // the kernel takes one bit less than it is told
}
