// Counter is a job for tests. Started as the first process of new namespaces
// it builds the least that a job needs to be dumped and restored: a root that
// is a mount, private /proc and /dev, stdio opened inside. Then it fills memory
// with a pattern, makes the file that it was told, and counts.
//
//	counter enter ROOT MIB READY
package main

import (
	"log"
	"os"
	"strconv"
	"syscall"
	"time"
)

func main() {
	if os.Args[1] == "enter" {
		enter(os.Args[2])
		must(syscall.Exec(os.Args[0], append([]string{os.Args[0]}, os.Args[3:]...), nil))
	}
	mib, err := strconv.Atoi(os.Args[1])
	must(err)
	memory := make([]byte, mib<<20)
	for i := range memory {
		memory[i] = byte(i>>12) | 1
	}
	must(os.WriteFile(os.Args[2], nil, 0o600))
	for n := 0; ; n++ {
		memory[n%len(memory)]++
		time.Sleep(time.Millisecond)
	}
}

func enter(root string) {
	must(syscall.Mount("", "/", "", syscall.MS_REC|syscall.MS_PRIVATE, ""))
	must(syscall.Mount("proc", root+"/proc", "proc", 0, ""))
	must(syscall.Mount("tmpfs", root+"/dev", "tmpfs", 0, ""))
	must(syscall.Mknod(root+"/dev/null", syscall.S_IFCHR|0o666, 1<<8|3))
	must(os.Chdir(root))
	must(syscall.PivotRoot(".", "mnt"))
	must(syscall.Unmount("/mnt", syscall.MNT_DETACH))
	null, err := syscall.Open("/dev/null", syscall.O_RDWR|syscall.O_CLOEXEC, 0)
	must(err)
	for fd := range 3 {
		must(syscall.Dup3(null, fd, 0))
	}
	closeOnExec(3)
}

// closeOnExec sees to it that nothing which the test itself inherited reaches
// the job.
func closeOnExec(first uintptr) {
	const sysCloseRange, cloexec = 436, 4
	if _, _, errno := syscall.Syscall(sysCloseRange, first, 1<<31-1, cloexec); errno != 0 {
		must(errno)
	}
}

func must(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
