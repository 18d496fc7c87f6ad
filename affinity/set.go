package affinity

import (
	"errors"
	"fmt"
	"math/bits"
	"strconv"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Max is how many processors a set can hold: as many as a kernel can be built for.
const Max = 8192

// maxText bounds a written set, in bytes: it holds any set of Max processors.
const maxText = 32 << 10

// Set is a set of processors, or of nodes of memory, by the kernel's numbers.
type Set [Max / 64]uint64

// Of reads the processors of a thread, 0 for this one.
func Of(tid int) (c Set, err error) {
	n, _, errno := unix.RawSyscall(unix.SYS_SCHED_GETAFFINITY, uintptr(tid), unsafe.Sizeof(c), uintptr(unsafe.Pointer(&c)))
	if errno == 0 && n == 0 {
		errno = unix.EINVAL
	}
	if errno != 0 {
		return c, fmt.Errorf("processors of thread %d: %w", tid, errno)
	}
	return c, nil
}

// Bind binds a thread to processors.
func Bind(tid int, c Set) error {
	_, _, errno := unix.RawSyscall(unix.SYS_SCHED_SETAFFINITY, uintptr(tid), unsafe.Sizeof(c), uintptr(unsafe.Pointer(&c)))
	if errno != 0 {
		return fmt.Errorf("bind thread %d to processors %v: %w", tid, c, errno)
	}
	return nil
}

// Empty tells that there is none.
func (c Set) Empty() bool { return c == Set{} }

// Within tells whether all are in another set.
func (c Set) Within(other Set) bool {
	for i := range c {
		if c[i]&^other[i] != 0 {
			return false
		}
	}
	return true
}

// Add adds those of another set.
func (c *Set) Add(other Set) {
	for i := range c {
		c[i] |= other[i]
	}
}

func (c *Set) put(n int) { c[n/64] |= 1 << (n % 64) }

func (c Set) has(n int) bool { return c[n/64]&(1<<(n%64)) != 0 }

// numbers lists them, ascending.
func (c Set) numbers() (list []int) {
	for i, word := range c {
		for ; word != 0; word &= word - 1 {
			list = append(list, i*64+bits.TrailingZeros64(word))
		}
	}
	return list
}

// String writes a set as the kernel does: 0-3,8.
func (c Set) String() string {
	var parts []string
	for n := 0; n < Max; n++ {
		if !c.has(n) {
			continue
		}
		from := n
		for n+1 < Max && c.has(n+1) {
			n++
		}
		if from == n {
			parts = append(parts, strconv.Itoa(n))
		} else {
			parts = append(parts, fmt.Sprintf("%d-%d", from, n))
		}
	}
	return strings.Join(parts, ",")
}

var errText = errors.New("no list of processors")

// Parse reads what String has written.
func Parse(text string) (c Set, err error) {
	if text == "" {
		return c, nil
	}
	if len(text) > maxText {
		return c, fmt.Errorf("%w: %d bytes", errText, len(text))
	}
	for part := range strings.SplitSeq(text, ",") {
		low, high, span := strings.Cut(part, "-")
		from, err := strconv.ParseUint(low, 10, 16)
		to := from
		if err == nil && span {
			to, err = strconv.ParseUint(high, 10, 16)
		}
		if err != nil || from > to || to >= Max {
			return Set{}, fmt.Errorf("%w: %.40q", errText, text)
		}
		for n := from; n <= to; n++ {
			c.put(int(n))
		}
	}
	return c, nil
}

// MarshalText is String.
func (c Set) MarshalText() ([]byte, error) { return []byte(c.String()), nil }

// UnmarshalText is Parse.
func (c *Set) UnmarshalText(text []byte) (err error) {
	*c, err = Parse(string(text))
	return err
}

// IsZero tells encoding/json that there is nothing to write.
func (c Set) IsZero() bool { return c.Empty() }

// Below tells whether all numbers are below n.
func (c Set) Below(n int) bool {
	for _, has := range c.numbers() {
		if has >= n {
			return false
		}
	}
	return true
}
