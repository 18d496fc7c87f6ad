package vm

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"time"
)

// Lab is where machines are made: an image, a segment, and a directory that goes
// with it.
type Lab struct {
	Dir     string
	Segment *Segment

	image    Image
	kvm      bool
	say      func(format string, args ...any)
	lock     *os.File
	mu       sync.Mutex
	machines []*Machine
	disks    sync.Mutex // the first machine that needs a RAM disk makes it
}

// NewLab makes one. Say is told what a person might want to know, such as a boot
// that had to be done twice; it may be nil.
func NewLab(ctx context.Context, say func(format string, args ...any)) (*Lab, error) {
	if say == nil {
		say = func(string, ...any) {}
	}
	image, err := Find(ctx)
	if err != nil {
		return nil, err
	}
	dir, lock, err := scratch()
	if err != nil {
		return nil, err
	}
	l := &Lab{Dir: dir, Segment: NewSegment(dir), image: image, say: say, lock: lock}
	if err := l.buildAgent(ctx); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	if l.kvm, err = l.mayUseKVM(ctx); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return l, nil
}

func (l *Lab) agent() string { return filepath.Join(l.Dir, "guest") }

func (l *Lab) buildAgent(ctx context.Context) error {
	root, err := repository()
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-buildvcs=false", "-ldflags=-s -w", "-o", l.agent(), "./e2e/vm/guest")
	cmd.Dir = root
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if text, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("build the guest's agent: %w\n%s", err, text)
	}
	return nil
}

// ramDisk makes the first RAM disk for a kernel, once.
func (l *Lab) ramDisk(kernel string) (string, error) {
	l.disks.Lock()
	defer l.disks.Unlock()
	path := filepath.Join(l.Dir, "initrd-"+kernel)
	if _, err := os.Stat(path); err == nil {
		return path, nil
	}
	return path, l.image.ramDisk(kernel, l.agent(), path)
}

// Close ends every machine and removes the directory. Closing twice is closing once.
func (l *Lab) Close() error {
	for _, m := range l.machines {
		m.PowerOff()
	}
	return errors.Join(l.Segment.Close(), os.RemoveAll(l.Dir), l.lock.Close())
}

// Machine makes a machine that is still off, with a fresh disk. Number, from 1,
// makes its addresses.
func (l *Lab) Machine(ctx context.Context, name string, number int) (*Machine, error) {
	m := &Machine{Name: name, Kernel: KernelStable, number: number, lab: l, dir: filepath.Join(l.Dir, name)}
	if err := os.Mkdir(m.dir, 0o755); err != nil {
		return nil, err
	}
	cp := exec.CommandContext(ctx, "cp", "--sparse=always", "--reflink=auto", l.image.disk(), m.disk())
	if text, err := cp.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("%s: %w: %s", cp, err, text)
	}
	l.add(m)
	return m, nil
}

func (l *Lab) add(m *Machine) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.machines = append(l.machines, m)
}

// older is by how much the second machine's uptime exceeds the first one's, where
// the emulation lets us choose it.
const older = 5 * time.Hour

// Pair makes two machines, a and b, and starts both.
func (l *Lab) Pair(ctx context.Context) (a, b *Machine, err error) {
	if a, err = l.Machine(ctx, "a", 1); err != nil {
		return nil, nil, err
	}
	if b, err = l.Machine(ctx, "b", 2); err != nil {
		return nil, nil, err
	}
	b.Older = older
	return a, b, Start(ctx, a, b)
}

// Start starts machines at the same time.
func Start(ctx context.Context, machines ...*Machine) error {
	began := time.Now()
	errs := make([]error, len(machines))
	var wait sync.WaitGroup
	for i, m := range machines {
		wait.Go(func() { errs[i] = m.Start(ctx) })
	}
	wait.Wait()
	if err := errors.Join(errs...); err != nil {
		return err
	}
	machines[0].lab.say("%d machines up in %v", len(machines), time.Since(began).Round(10*time.Millisecond))
	return nil
}

func seed() []byte {
	b := make([]byte, 64)
	_, _ = rand.Read(b) // never fails, since Go 1.24
	return b
}
