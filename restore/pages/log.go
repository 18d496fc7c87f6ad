package pages

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"

	"github.com/migrate-hpc/migrate/checkpoint/image"
)

// The index log: a header of 16 bytes, then records of 40 bytes, little endian.
//
//	header  "migpages" version u32, page size u32
//	record  kind u32, vpid u32, addr u64, pages u64, off u64, reserved u32, crc u32
//
// The CRC-32C covers the 36 bytes before it. Reading the records in order gives
// the index; a later record replaces what earlier ones say about its pages.
const (
	logMagic   = "migpages"
	logVersion = 1
	headerSize = 16
	recordSize = 40

	recordData = 1 // pages lie at off in the data file
	recordZero = 2 // pages are zero
	recordDrop = 3 // pages are forgotten
)

func logHeader() []byte {
	b := append(make([]byte, 0, headerSize), logMagic...)
	b = binary.LittleEndian.AppendUint32(b, logVersion)
	return binary.LittleEndian.AppendUint32(b, pageSize)
}

func checksum(b []byte) uint32 { return crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli)) }

func encodeRecord(kind uint32, vpid image.VPID, sp span) []byte {
	b := make([]byte, 0, recordSize)
	b = binary.LittleEndian.AppendUint32(b, kind)
	b = binary.LittleEndian.AppendUint32(b, uint32(vpid))
	b = binary.LittleEndian.AppendUint64(b, sp.start)
	b = binary.LittleEndian.AppendUint64(b, uint64(sp.bytes()/pageSize))
	b = binary.LittleEndian.AppendUint64(b, uint64(max(sp.off, 0)))
	b = binary.LittleEndian.AppendUint32(b, 0)
	return binary.LittleEndian.AppendUint32(b, checksum(b))
}

// decodeRecord decodes one record; size is the data file's, in bytes.
func decodeRecord(b []byte, size int64) (kind uint32, vpid image.VPID, sp span, err error) {
	if checksum(b[:recordSize-4]) != binary.LittleEndian.Uint32(b[recordSize-4:]) {
		return 0, 0, span{}, fmt.Errorf("%w: checksum of a log record", ErrDamaged)
	}
	kind, vpid = binary.LittleEndian.Uint32(b), image.VPID(binary.LittleEndian.Uint32(b[4:]))
	addr, pages := binary.LittleEndian.Uint64(b[8:]), int64(binary.LittleEndian.Uint64(b[16:]))
	if err := checkRange(vpid, addr, pages); err != nil {
		return 0, 0, span{}, fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	sp = span{start: addr, end: addr + uint64(pages)*pageSize, off: zeroOff}
	switch kind {
	case recordZero, recordDrop:
		return kind, vpid, sp, nil
	case recordData:
		sp.off = int64(binary.LittleEndian.Uint64(b[24:]))
		if sp.off < 0 || sp.off%pageSize != 0 || sp.bytes() > size || sp.off > size-sp.bytes() {
			return 0, 0, span{}, fmt.Errorf("%w: %d pages at offset %d of %d bytes", ErrDamaged, pages, sp.off, size)
		}
		return kind, vpid, sp, nil
	}
	return 0, 0, span{}, fmt.Errorf("%w: log record of kind %d", ErrDamaged, kind)
}

// append adds a record to the log. The caller holds mu, so that the order of
// records is the order of changes.
func (s *Store) append(kind uint32, vpid image.VPID, sp span) error {
	if _, err := s.log.Write(encodeRecord(kind, vpid, sp)); err != nil {
		return fmt.Errorf("append to the index log: %w", err)
	}
	return nil
}

// replay rebuilds the index and the counters of blocks from the log.
func (s *Store) replay() error {
	log, err := io.ReadAll(s.log)
	if err != nil {
		return fmt.Errorf("read the index log: %w", err)
	}
	info, err := s.data.Stat()
	if err != nil {
		return err
	}
	if len(log) < headerSize || string(log[:headerSize]) != string(logHeader()) {
		return fmt.Errorf("%w: header of the index log", ErrDamaged)
	}
	if torn := (len(log) - headerSize) % recordSize; torn != 0 && s.view {
		log = log[:len(log)-torn]
	} else if torn != 0 {
		return fmt.Errorf("%w: the index log ends inside a record", ErrDamaged)
	}
	for log = log[headerSize:]; len(log) > 0; log = log[recordSize:] {
		kind, vpid, sp, err := decodeRecord(log[:recordSize], info.Size())
		if err != nil {
			return err
		}
		t := s.tableOf(vpid)
		t.cut(sp.start, sp.end)
		if kind != recordDrop {
			t.insert(sp)
		}
	}
	s.recount(info.Size())
	return nil
}

// recount sets the counters of blocks from the index.
func (s *Store) recount(size int64) {
	s.blocks = blocks{next: size}
	s.blocks.grow()
	for _, t := range s.index {
		s.blocks.retain(t.all())
	}
}
