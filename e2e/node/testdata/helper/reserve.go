package main

import (
	"fmt"
	"os"
	"syscall"
	"time"
	"unsafe"
)

// reserve reserves address space, twice the memory of the node, and uses it page by page.
func reserve() error {
	var info syscall.Sysinfo_t
	if err := syscall.Sysinfo(&info); err != nil {
		return err
	}
	size := 2 * (info.Totalram + info.Totalswap) * uint64(info.Unit)
	addr, _, errno := syscall.Syscall6(syscall.SYS_MMAP, 0, uintptr(size), syscall.PROT_NONE, syscall.MAP_PRIVATE|syscall.MAP_ANON, ^uintptr(0), 0)
	if errno != 0 {
		return errno
	}
	page := uintptr(os.Getpagesize())
	fmt.Printf("%x\nready\n", addr)
	for n := uintptr(0); ; n++ {
		at := addr + 16*page*n
		if _, _, errno := syscall.Syscall(syscall.SYS_MPROTECT, at, page, syscall.PROT_READ|syscall.PROT_WRITE); errno != 0 {
			return errno
		}
		memory := (*[1 << 30]byte)(unsafe.Pointer(addr)) // it is no memory of Go's
		memory[16*page*n] = byte(n) + 1
		for old := range n {
			if memory[16*page*old] != byte(old)+1 {
				return fmt.Errorf("page %d has %d", old, memory[16*page*old])
			}
		}
		fmt.Println(n)
		time.Sleep(20 * time.Millisecond)
	}
}
