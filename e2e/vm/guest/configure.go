//go:build linux

package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/migrate-hpc/migrate/e2e/vm/guest/api"
)

// configure gives the guest what tells it from others.
func configure(r *http.Request) error {
	var c api.Configuration
	if err := json.NewDecoder(r.Body).Decode(&c); err != nil {
		return err
	}
	return errors.Join(
		addEntropy(c.Seed),
		unix.Sethostname([]byte(c.Hostname)),
		os.WriteFile("/etc/hostname", []byte(c.Hostname+"\n"), 0o644),
		segment(c.MAC, c.Address))
}

func setClock(r *http.Request) error {
	var c api.Clock
	if err := json.NewDecoder(r.Body).Decode(&c); err != nil {
		return err
	}
	tv := unix.NsecToTimeval(c.Time.UnixNano())
	return unix.Settimeofday(&tv)
}

// addEntropy mixes the seed in and makes the generator use it at once; see
// random(4), RNDADDENTROPY and RNDRESEEDCRNG.
func addEntropy(seed []byte) error {
	const most = 256
	if len(seed) > most {
		return fmt.Errorf("a seed of %d bytes, want at most %d", len(seed), most)
	}
	f, err := os.OpenFile("/dev/urandom", os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	pool := struct {
		bits, size int32
		buf        [most]byte
	}{int32(len(seed) * 8), int32(len(seed)), [most]byte{}}
	copy(pool.buf[:], seed)
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, f.Fd(), unix.RNDADDENTROPY, uintptr(unsafe.Pointer(&pool))); errno != 0 {
		return fmt.Errorf("add entropy: %w", errno)
	}
	return unix.IoctlSetInt(int(f.Fd()), rndReseed, 0)
}

const rndReseed = 0x5207 // RNDRESEEDCRNG of linux/random.h
