package main

import (
	"fmt"
	"os"
	"runtime"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// confine makes files unwritable for this process by Landlock, and executes it anew with the
// argument "confined": a domain belongs to a thread, and only an execve ends the others.
func confine() error {
	runtime.LockOSThread()
	handled := struct{ fs uint64 }{unix.LANDLOCK_ACCESS_FS_MAKE_REG | unix.LANDLOCK_ACCESS_FS_WRITE_FILE}
	rules, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, uintptr(unsafe.Pointer(&handled)), unsafe.Sizeof(handled), 0)
	if errno != 0 {
		return fmt.Errorf("landlock_create_ruleset: %w", errno)
	}
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return err
	}
	if _, _, errno := unix.Syscall(unix.SYS_LANDLOCK_RESTRICT_SELF, rules, 0, 0); errno != 0 {
		return fmt.Errorf("landlock_restrict_self: %w", errno)
	}
	if err := unix.Close(int(rules)); err != nil {
		return err
	}
	return syscall.Exec("/proc/self/exe", []string{"helper", "confined"}, os.Environ())
}

// confined tells, again and again, whether it can make a file, and whether its process keyring has
// the key that it has put there.
func confined() error {
	runtime.LockOSThread() // a process keyring that is made by one thread is not seen by those there are
	if _, err := unix.AddKey("user", "own", []byte("secret"), unix.KEY_SPEC_PROCESS_KEYRING); err != nil {
		return err
	}
	for {
		_, err := unix.KeyctlSearch(unix.KEY_SPEC_PROCESS_KEYRING, "user", "own", 0)
		file := os.WriteFile("/tmp/made", nil, 0o600)
		fmt.Printf("HELPER FILE %v KEY %v\n", file == nil, err == nil)
		time.Sleep(50 * time.Millisecond)
	}
}
