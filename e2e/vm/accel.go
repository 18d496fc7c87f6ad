package vm

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// kvmLimit is how long a boot with KVM may take; a good one takes a second.
const kvmLimit = 12 * time.Second

// mayUseKVM says whether a machine has ever booted with KVM under the kernel that
// runs here. A /dev/kvm alone promises nothing: within another virtual machine it
// may not get through the first instructions.
func (l *Lab) mayUseKVM(ctx context.Context) (bool, error) {
	f, err := os.OpenFile("/dev/kvm", os.O_RDWR, 0)
	if err != nil {
		return false, nil
	}
	_ = f.Close() // only opened to see whether we may
	release, err := kernelRelease()
	if err != nil {
		return false, err
	}
	remembered := filepath.Join(l.image.dir, "accelerator")
	if data, err := os.ReadFile(remembered); err == nil {
		if at, word, _ := strings.Cut(strings.TrimSpace(string(data)), " "); at == release {
			return word == "kvm", nil
		}
	}
	word := "tcg"
	if err := l.tryKVM(ctx); err == nil {
		word = "kvm"
	} else if ctx.Err() != nil {
		return false, err
	} else {
		l.say("no boot with KVM here, machines will be emulated: %v", err)
	}
	return word == "kvm", os.WriteFile(remembered, []byte(release+" "+word+"\n"), 0o644)
}

func (l *Lab) tryKVM(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, kvmLimit, errors.New("it did not get far in the time it has"))
	defer cancel()
	m, err := l.Machine(ctx, "kvm", 99)
	if err != nil {
		return err
	}
	defer m.PowerOff()
	return m.boot(ctx, true, m.enter)
}

func kernelRelease() (string, error) {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return "", fmt.Errorf("uname: %w", err)
	}
	return unix.ByteSliceToString(u.Release[:]), nil
}
