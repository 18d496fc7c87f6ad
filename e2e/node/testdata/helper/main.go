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

// roles are what the helper can be, by its first argument. They get the others.
var roles = map[string]func(args []string) error{
	"loopback":         func([]string) error { return loopback() },
	"connections":      func([]string) error { return connections() },
	"connections-peer": func([]string) error { return connectionsPeer() },
	"options":          func(args []string) error { return socketOptions(args[0]) },
	"late-reader":      func([]string) error { return lateReader() },
	"deaf":             func([]string) error { return deaf() },
	"in-flight":        func([]string) error { return inFlight() },
	"io_uring":         func([]string) error { return ring() },
	"open":             open,
	"pass":             counting(pass),
	"key":              counting(key),
	"late-key":         lateKey,
	"attack":           attackProcess,
	"confine":          func([]string) error { return confine() },
	"confined":         func([]string) error { return confined() },
	"find-key":         func(args []string) error { return findKey(args[0]) },
	"idle":             func([]string) error { time.Sleep(time.Hour); return nil },
	"filter":           filtered,
	"reserve":          func([]string) error { return reserve() },
	"hog":              func([]string) error { hog(); return nil },
	"queue":            func([]string) error { return queue() },
	"ask":              func(args []string) error { return ask(args[0], args[1], args[2]) },
	"listen":           func(args []string) error { return listen(args[0], args[1]) },
	"locks":            func(args []string) error { return locks(args[0]) },
	"lock":             func(args []string) error { return lock(args[0]) },
	"undo":             func(args []string) error { return undo(args[0]) },
	"watch":            func(args []string) error { return watch(args[0]) },
	"attrs":            attributes,
	"odd":              func(args []string) error { return odd(args[0]) },
}

func main() {
	role, known := roles[os.Args[1]]
	if !known {
		check(fmt.Errorf("there is no role %q", os.Args[1]))
	}
	check(role(os.Args[2:]))
}

// counting counts when something has been done.
func counting(do func(string) error) func([]string) error {
	return func(args []string) error {
		if err := do(args[0]); err != nil {
			return err
		}
		count()
		return nil
	}
}

func open(args []string) error {
	if _, err := os.OpenFile(args[0], os.O_RDWR, 0); err != nil {
		return err
	}
	count()
	return nil
}

func lateKey(args []string) error {
	usr1 := make(chan os.Signal, 1)
	signal.Notify(usr1, syscall.SIGUSR1)
	go count()
	<-usr1
	if err := key(args[0]); err != nil {
		return err
	}
	fmt.Println("HELPER HAS KEY")
	select {}
}

func attackProcess(args []string) error {
	victim, err := strconv.Atoi(args[1])
	if err != nil {
		return err
	}
	return attack(args[0], victim)
}

func filtered([]string) error {
	if err := exec.Command("/proc/self/exe", "idle").Start(); err != nil {
		return err
	}
	if err := filter(); err != nil {
		return err
	}
	count()
	return nil
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
