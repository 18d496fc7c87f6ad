// Command helper is a job that does what the oracle does not: it is a Go program,
// and it holds what a move must carry or refuse.
package main

import (
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"strconv"
	"syscall"
	"time"
	"unsafe"
)

func main() {
	switch os.Args[1] {
	case "loopback":
		check(loopback())
	case "connections":
		check(connections())
	case "connections-peer":
		check(connectionsPeer())
	case "options":
		check(socketOptions(os.Args[2]))
	case "io_uring":
		check(ring())
	case "open":
		_, err := os.OpenFile(os.Args[2], os.O_RDWR, 0)
		check(err)
		count()
	case "pass":
		check(pass(os.Args[2]))
		count()
	case "key":
		check(key(os.Args[2]))
		count()
	case "late-key":
		usr1 := make(chan os.Signal, 1)
		signal.Notify(usr1, syscall.SIGUSR1)
		go count()
		<-usr1
		check(key(os.Args[2]))
		fmt.Println("HELPER HAS KEY")
		select {}
	case "attack":
		victim, err := strconv.Atoi(os.Args[3])
		check(err)
		check(attack(os.Args[2], victim))
	case "confine":
		check(confine())
	case "confined":
		check(confined())
	case "find-key":
		check(findKey(os.Args[2]))
	case "idle":
		time.Sleep(time.Hour)
	case "filter":
		check(exec.Command("/proc/self/exe", "idle").Start())
		check(filter())
		count()
	case "hog":
		hog()
	case "queue":
		check(queue())
	case "ask":
		check(ask(os.Args[2], os.Args[3], os.Args[4]))
	case "listen":
		check(listen(os.Args[2], os.Args[3]))
	case "locks":
		check(locks(os.Args[2]))
	case "lock":
		check(lock(os.Args[2]))
	case "undo":
		check(undo(os.Args[2]))
	case "attrs":
		check(attributes(os.Args[2:]))
	case "odd":
		check(odd(os.Args[2]))
	}
}

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "HELPER FAIL", err)
		os.Exit(33)
	}
}

// pass has a file open nowhere but in a message that is not yet received.
func pass(path string) error {
	ends, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_DGRAM, 0)
	if err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	return syscall.Sendmsg(ends[0], []byte("file"), syscall.UnixRights(int(f.Fd())), nil, 0)
}

// count prints a number every 10 ms, for ever.
func count() {
	for i := 0; ; i++ {
		fmt.Println("n", i)
		time.Sleep(10 * time.Millisecond)
	}
}

// loopback sends numbers through an established connection to itself and prints
// what comes out.
func loopback() error {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	out, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		return err
	}
	in, err := l.Accept()
	if err != nil {
		return err
	}
	go func() {
		var b [8]byte
		for i := uint64(0); ; i++ {
			binary.LittleEndian.PutUint64(b[:], i)
			_, err := out.Write(b[:])
			check(err)
			time.Sleep(time.Millisecond)
		}
	}()
	var b [8]byte
	for i := uint64(0); ; i++ {
		if _, err := io.ReadFull(in, b[:]); err != nil {
			return err
		}
		if got := binary.LittleEndian.Uint64(b[:]); got != i {
			return fmt.Errorf("%d came through the connection, want %d", got, i)
		}
		if i%10 == 0 {
			fmt.Println("n", i/10)
		}
	}
}

// ring holds an io_uring, which CRIU cannot save.
func ring() error {
	var params [120]byte
	const setup = 425
	if _, _, errno := syscall.Syscall(setup, 4, uintptr(unsafe.Pointer(&params)), 0); errno != 0 {
		return fmt.Errorf("io_uring_setup: %w", errno)
	}
	count()
	return nil
}

// queue fills a POSIX message queue, closes it, and looks whether all is still in
// it, in order, at the beginning and at each SIGUSR1.
func queue() error {
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGUSR1)
	name, err := syscall.BytePtrFromString("helper")
	if err != nil {
		return err
	}
	const messages = 3
	for i := 0; ; i++ {
		fd, _, errno := syscall.Syscall6(syscall.SYS_MQ_OPEN, uintptr(unsafe.Pointer(name)), uintptr(syscall.O_RDWR|syscall.O_NONBLOCK|create(i)), 0o600, 0, 0, 0)
		if errno != 0 {
			return fmt.Errorf("mq_open: %w", errno)
		}
		buf := make([]byte, 8192) // the default size of a message
		for n := range messages {
			got, _, errno := syscall.Syscall6(syscall.SYS_MQ_TIMEDRECEIVE, fd, uintptr(unsafe.Pointer(&buf[0])), uintptr(len(buf)), 0, 0, 0)
			if want := fmt.Sprint("message ", n); i > 0 && (errno != 0 || string(buf[:got]) != want) {
				return fmt.Errorf("message %d is %q: %w", n, buf[:got], errno)
			}
		}
		for n := range messages {
			text := fmt.Append(nil, "message ", n)
			if _, _, errno := syscall.Syscall6(syscall.SYS_MQ_TIMEDSEND, fd, uintptr(unsafe.Pointer(&text[0])), uintptr(len(text)), 5, 0, 0); errno != 0 {
				return fmt.Errorf("mq_send: %w", errno)
			}
		}
		if err := syscall.Close(int(fd)); err != nil {
			return err
		}
		fmt.Println("n", i)
		<-signals
	}
}

func create(i int) int {
	if i == 0 {
		return syscall.O_CREAT | syscall.O_EXCL
	}
	return 0
}

// hog asks for ever more memory.
func hog() {
	var held [][]byte
	for {
		b := make([]byte, 1<<20)
		for i := range b {
			b[i] = byte(i)
		}
		held = append(held, b)
		fmt.Println("n", len(held)-1)
	}
}
