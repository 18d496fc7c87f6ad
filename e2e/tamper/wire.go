package tamper

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"

	"google.golang.org/protobuf/encoding/protowire"
)

var errStrange = errors.New("not an image as CRIU writes it")

// numbers returns all values of a numeric field at a path of fields, each inside the one
// before.
func numbers(msg []byte, path ...protowire.Number) (values []uint64, err error) {
	err = each(msg, func(field protowire.Number, kind protowire.Type, value, _ []byte) error {
		switch {
		case field != path[0]:
		case len(path) > 1:
			inner, _ := protowire.ConsumeBytes(value)
			deeper, err := numbers(inner, path[1:]...)
			values = append(values, deeper...)
			return err
		case kind == protowire.VarintType:
			n, _ := protowire.ConsumeVarint(value)
			values = append(values, n)
		}
		return nil
	})
	return values, err
}

// with replaces all values of a numeric field. Messages on the way are made if they are
// missing.
func with(msg []byte, values []uint64, path ...protowire.Number) ([]byte, error) {
	var out []byte
	found := false
	err := each(msg, func(field protowire.Number, _ protowire.Type, value, whole []byte) error {
		switch {
		case field != path[0]:
			out = append(out, whole...)
		case len(path) > 1:
			found = true
			inner, _ := protowire.ConsumeBytes(value)
			inner, err := with(inner, values, path[1:]...)
			out = protowire.AppendBytes(protowire.AppendTag(out, field, protowire.BytesType), inner)
			return err
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	if len(path) > 1 && !found && len(values) > 0 {
		inner, err := with(nil, values, path[1:]...)
		return protowire.AppendBytes(protowire.AppendTag(out, path[0], protowire.BytesType), inner), err
	}
	if len(path) == 1 {
		for _, v := range values {
			out = protowire.AppendVarint(protowire.AppendTag(out, path[0], protowire.VarintType), v)
		}
	}
	return out, nil
}

// without leaves out the n-th message at a path, or all of them if n is below zero.
func without(msg []byte, n int, path ...protowire.Number) (out []byte, err error) {
	at := 0
	err = each(msg, func(field protowire.Number, _ protowire.Type, value, whole []byte) error {
		switch {
		case field != path[0]:
			out = append(out, whole...)
		case len(path) > 1:
			inner, _ := protowire.ConsumeBytes(value)
			inner, err := without(inner, n, path[1:]...)
			out = protowire.AppendBytes(protowire.AppendTag(out, field, protowire.BytesType), inner)
			return err
		default:
			if n >= 0 && at != n {
				out = append(out, whole...)
			}
			at++
		}
		return nil
	})
	return out, err
}

func each(msg []byte, do func(field protowire.Number, kind protowire.Type, value, whole []byte) error) error {
	for len(msg) > 0 {
		field, kind, tag := protowire.ConsumeTag(msg)
		if tag < 0 {
			return protowire.ParseError(tag)
		}
		size := protowire.ConsumeFieldValue(field, kind, msg[tag:])
		if size < 0 {
			return protowire.ParseError(size)
		}
		if err := do(field, kind, msg[tag:tag+size], msg[:tag+size]); err != nil {
			return err
		}
		msg = msg[tag+size:]
	}
	return nil
}

// imageFile is a file of CRIU's: one or two magic numbers, and messages behind their lengths.
type imageFile struct {
	magic   []byte
	records [][]byte
}

const commonMagic = 0x54564319

func readImage(name string) (i imageFile, err error) {
	data, err := os.ReadFile(name)
	if err != nil {
		return i, err
	}
	if len(data) < 8 {
		return i, fmt.Errorf("%s: %w", name, errStrange)
	}
	head := 4
	if binary.LittleEndian.Uint32(data) == commonMagic {
		head = 8
	}
	i.magic, data = data[:head], data[head:]
	for len(data) > 0 {
		if len(data) < 4 || uint32(len(data)-4) < binary.LittleEndian.Uint32(data) {
			return i, fmt.Errorf("%s: %w", name, errStrange)
		}
		size := binary.LittleEndian.Uint32(data)
		i.records = append(i.records, data[4:4+size])
		data = data[4+size:]
	}
	return i, nil
}

func (i imageFile) bytes() []byte {
	out := append([]byte{}, i.magic...)
	for _, r := range i.records {
		out = append(binary.LittleEndian.AppendUint32(out, uint32(len(r))), r...)
	}
	return out
}

func (i imageFile) write(name string) error { return os.WriteFile(name, i.bytes(), 0o600) }
