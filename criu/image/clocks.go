package image

import (
	"encoding/binary"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/migrate-hpc/migrate/durable"
)

// Clocks returns the readings of the job's MONOTONIC and BOOTTIME clocks that
// CRIU will continue from at the restore. They are readings inside the job's
// time namespace, not offsets (criu/timens.c). A job without a time namespace
// of its own has no such image: the error wraps ErrMissing.
func Clocks(dir string) (monotonic, boottime time.Duration, err error) {
	name, err := timensFile(dir)
	if err != nil {
		return 0, 0, err
	}
	data, err := ReadBounded(name, maxTimensImage)
	if err != nil {
		return 0, 0, fmt.Errorf("read clocks: %w", err)
	}
	if monotonic, boottime, err = decodeClocks(data); err != nil {
		return 0, 0, fmt.Errorf("read clocks of %s: %w", name, err)
	}
	return monotonic, boottime, nil
}

// SetClocks replaces the readings. The image is replaced as a whole or not at
// all. Negative readings are refused: no kernel has such clocks.
func SetClocks(dir string, monotonic, boottime time.Duration) error {
	if monotonic < 0 || boottime < 0 {
		return fmt.Errorf("set clocks of %s: negative reading (monotonic %v, boottime %v)", dir, monotonic, boottime)
	}
	if _, _, err := Clocks(dir); err != nil {
		return fmt.Errorf("set clocks: %w", err)
	}
	name, err := timensFile(dir)
	if err != nil {
		return err
	}
	if err := durable.WriteFile(name, encodeClocks(monotonic, boottime), filePerm); err != nil {
		return fmt.Errorf("set clocks: %w", err)
	}
	return nil
}

// maxTimensImage bounds a timens-*.img, in bytes: two clocks and their head.
const maxTimensImage = 4 << 10

// timensFile finds the one image of a time namespace. CRIU refuses to dump jobs
// with more of them.
func timensFile(dir string) (string, error) {
	names, err := filepath.Glob(filepath.Join(dir, "timens-*.img"))
	if err != nil {
		return "", fmt.Errorf("find clocks in %s: %w", dir, err)
	}
	switch len(names) {
	case 0:
		return "", fmt.Errorf("clocks in %s (timens-*.img): %w", dir, ErrMissing)
	case 1:
		return names[0], nil
	}
	return "", fmt.Errorf("clocks in %s: %w: %d time namespaces", dir, ErrFormat, len(names))
}

func encodeClocks(monotonic, boottime time.Duration) []byte {
	var msg []byte
	for i, d := range []time.Duration{monotonic, boottime} {
		var ts []byte
		ts = protowire.AppendTag(ts, 1, protowire.VarintType)
		ts = protowire.AppendVarint(ts, uint64(d/time.Second))
		ts = protowire.AppendTag(ts, 2, protowire.VarintType)
		ts = protowire.AppendVarint(ts, uint64(d%time.Second))
		msg = protowire.AppendTag(msg, protowire.Number(i+1), protowire.BytesType)
		msg = protowire.AppendBytes(msg, ts)
	}
	img := binary.LittleEndian.AppendUint32(nil, magicCommon)
	img = binary.LittleEndian.AppendUint32(img, magicTimens)
	return appendRecord(img, msg)
}

func decodeClocks(data []byte) (monotonic, boottime time.Duration, err error) {
	rest, err := cutMagic(data, magicTimens)
	if err != nil {
		return 0, 0, err
	}
	msg, rest, err := cutRecord(rest)
	if err != nil {
		return 0, 0, err
	}
	if len(rest) != 0 {
		return 0, 0, fmt.Errorf("%w: %d bytes behind the only record", ErrFormat, len(rest))
	}
	readings := [3]time.Duration{-1, -1, -1}
	for len(msg) > 0 {
		num, typ, n := protowire.ConsumeTag(msg)
		if n < 0 || typ != protowire.BytesType || num > 2 {
			return 0, 0, fmt.Errorf("%w: field %d of timens_entry", ErrFormat, num)
		}
		ts, m := protowire.ConsumeBytes(msg[n:])
		if m < 0 {
			return 0, 0, errors.Join(ErrFormat, protowire.ParseError(m))
		}
		if readings[num], err = decodeTimespec(ts); err != nil {
			return 0, 0, err
		}
		msg = msg[n+m:]
	}
	if readings[1] < 0 || readings[2] < 0 {
		return 0, 0, fmt.Errorf("%w: a clock is missing", ErrFormat)
	}
	return readings[1], readings[2], nil
}

func decodeTimespec(msg []byte) (time.Duration, error) {
	var sec, nsec uint64
	if err := eachVarint(msg, func(num protowire.Number, v uint64) {
		switch num {
		case 1:
			sec = v
		case 2:
			nsec = v
		}
	}); err != nil {
		return 0, err
	}
	const maxSeconds = uint64(1<<63-1)/uint64(time.Second) - 1
	if sec > maxSeconds || nsec >= uint64(time.Second) {
		return 0, fmt.Errorf("%w: clock reads %d s %d ns", ErrFormat, sec, nsec)
	}
	return time.Duration(sec)*time.Second + time.Duration(nsec), nil
}
