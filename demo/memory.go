package demo

import (
	"encoding/binary"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// stripes is the number of parts of the memory. The job compares and rewrites one at each
// tick, so that as many ticks cover all of it.
const stripes = 16

// memory is what the job holds: anonymous pages whose content follows from their
// place and from the tick that wrote them.
type memory struct {
	bytes   []byte
	written [stripes]int64 // the tick that wrote each stripe
}

func newMemory(size int64) (*memory, error) {
	b, err := unix.Mmap(-1, 0, int(size), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		return nil, fmt.Errorf("take %d bytes of memory: %w", size, err)
	}
	m := &memory{bytes: b}
	for i := range stripes {
		m.write(i, 0)
	}
	return m, nil
}

// step compares the stripe of a tick, rewrites it, and returns the number of bytes compared.
func (m *memory) step(tick int64) (int64, error) {
	i := int(tick % stripes)
	if err := m.compare(i); err != nil {
		return 0, err
	}
	m.write(i, tick)
	return int64(len(m.stripe(i))), nil
}

func (m *memory) stripe(i int) []byte {
	n := len(m.bytes) / stripes
	return m.bytes[i*n : (i+1)*n]
}

func (m *memory) write(i int, tick int64) {
	s := m.stripe(i)
	for at := 0; at < len(s); at += 8 {
		binary.LittleEndian.PutUint64(s[at:], word(i, tick, at))
	}
	m.written[i] = tick
}

func (m *memory) compare(i int) error {
	s := m.stripe(i)
	for at := 0; at < len(s); at += 8 {
		got, want := binary.LittleEndian.Uint64(s[at:]), word(i, m.written[i], at)
		if got != want {
			return fmt.Errorf("memory differs at byte %d: %#x, and tick %d wrote %#x", i*len(s)+at, got, m.written[i], want)
		}
	}
	return nil
}

// word is the value at offset at of a stripe. Every other page is random and
// every other one repeats a word, as in the memory of real programs.
func word(stripe int, tick int64, at int) uint64 {
	page := at / os.Getpagesize()
	seed := uint64(stripe)<<56 ^ uint64(tick)<<32 ^ uint64(page)
	if page%2 == 1 {
		return mix(seed)
	}
	return mix(seed<<1 ^ uint64(at)<<20)
}

// mix is the finalizer of splitmix64 (Steele, Lea, Flood: Fast Splittable
// Pseudorandom Number Generators, 2014).
func mix(z uint64) uint64 {
	z += 0x9e3779b97f4a7c15
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	return z ^ z>>31
}
