package antispoof

import (
	"encoding/binary"
	"math"
	"net/netip"

	"golang.org/x/net/bpf"
)

// code is a piece of a program. What falls through its end goes on with the next
// piece; a load beyond the frame's end drops the frame.
type code []bpf.Instruction

const allowed = 1

// The verdicts.
var (
	allow = code{bpf.RetConstant{Val: allowed}}
	drop  = code{bpf.RetConstant{Val: 0}}
)

func join(pieces ...code) code {
	var all code
	for _, p := range pieces {
		all = append(all, p...)
	}
	return all
}

// field is a number of one, two or four bytes in network order.
type field struct {
	load code
}

func at(offset uint32, size int) field {
	return field{code{bpf.LoadAbsolute{Off: offset, Size: size}}}
}

// behindIPv4 is a field of what an IPv4 header, whose length varies, is followed by.
func behindIPv4(offset uint32, size int) field {
	return field{code{bpf.LoadMemShift{Off: network}, bpf.LoadIndirect{Off: network + offset, Size: size}}}
}

func (f field) mask(bits uint32) field {
	return field{join(f.load, code{bpf.ALUOpConstant{Op: bpf.ALUOpAnd, Val: bits}})}
}

// when runs then, which may fall through, where the field has the value.
func (f field) when(value uint32, then code) code {
	return f.test(bpf.JumpEqual, value, then)
}

// unless runs then where the field has another value.
func (f field) unless(value uint32, then code) code {
	return f.test(bpf.JumpNotEqual, value, then)
}

func (f field) test(cond bpf.JumpTest, value uint32, then code) code {
	if n := len(then); n > math.MaxUint8 { // as far as a conditional jump goes
		return join(f.load, code{bpf.JumpIf{Cond: cond, Val: value, SkipTrue: 1}, bpf.Jump{Skip: uint32(n)}}, then)
	}
	return join(f.load, code{bpf.JumpIf{Cond: cond, Val: value, SkipFalse: uint8(len(then))}}, then)
}

// oneOf runs then where the field has one of the values.
func (f field) oneOf(values []uint32, then code) code {
	var all code
	for _, v := range values {
		all = join(all, f.when(v, then))
	}
	return all
}

// whenBytes runs then where the frame has the bytes, an even number of them, at offset.
func whenBytes(offset uint32, bytes []byte, then code) code {
	n := len(bytes)
	switch {
	case n == 0:
		return then
	case n%4 == 2:
		value := uint32(binary.BigEndian.Uint16(bytes[n-2:]))
		return whenBytes(offset, bytes[:n-2], at(offset+uint32(n-2), 2).when(value, then))
	}
	return whenBytes(offset, bytes[:n-4], at(offset+uint32(n-4), 4).when(binary.BigEndian.Uint32(bytes[n-4:]), then))
}

// whenAddr runs then where one of the addresses is at offset.
func whenAddr(offset uint32, addrs []netip.Addr, then code) code {
	var all code
	for _, a := range addrs {
		all = join(all, whenBytes(offset, a.AsSlice(), then))
	}
	return all
}
