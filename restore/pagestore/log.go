package pagestore

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"
	"os"

	"github.com/migrate-hpc/migrate/restore/pageset"
	"github.com/migrate-hpc/migrate/stream"
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
	return binary.LittleEndian.AppendUint32(b, stream.PageSize)
}

func checksum(b []byte) uint32 { return crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli)) }

func appendRecord(b []byte, kind uint32, vpid stream.VPID, sp pageset.Span) []byte {
	from := len(b)
	b = binary.LittleEndian.AppendUint32(b, kind)
	b = binary.LittleEndian.AppendUint32(b, uint32(vpid))
	b = binary.LittleEndian.AppendUint64(b, sp.Start)
	b = binary.LittleEndian.AppendUint64(b, uint64(sp.Bytes()/stream.PageSize))
	b = binary.LittleEndian.AppendUint64(b, uint64(max(sp.Off, 0)))
	b = binary.LittleEndian.AppendUint32(b, 0)
	return binary.LittleEndian.AppendUint32(b, checksum(b[from:]))
}

// decodeRecord decodes one record; size is the data file's, in bytes.
func decodeRecord(b []byte, size int64) (kind uint32, vpid stream.VPID, sp pageset.Span, err error) {
	if checksum(b[:recordSize-4]) != binary.LittleEndian.Uint32(b[recordSize-4:]) {
		return 0, 0, pageset.Span{}, fmt.Errorf("%w: checksum of a log record", ErrDamaged)
	}
	kind, vpid = binary.LittleEndian.Uint32(b), stream.VPID(binary.LittleEndian.Uint32(b[4:]))
	addr, pages := binary.LittleEndian.Uint64(b[8:]), int64(binary.LittleEndian.Uint64(b[16:]))
	if err := checkRange(vpid, addr, pages); err != nil {
		return 0, 0, pageset.Span{}, fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	sp = pageset.Span{Start: addr, End: addr + uint64(pages)*stream.PageSize, Off: pageset.ZeroOff}
	switch kind {
	case recordZero, recordDrop:
		return kind, vpid, sp, nil
	case recordData:
		sp.Off = int64(binary.LittleEndian.Uint64(b[24:]))
		if sp.Off < 0 || sp.Off%stream.PageSize != 0 || sp.Bytes() > size || sp.Off > size-sp.Bytes() {
			return 0, 0, pageset.Span{}, fmt.Errorf("%w: %d pages at offset %d of %d bytes", ErrDamaged, pages, sp.Off, size)
		}
		return kind, vpid, sp, nil
	}
	return 0, 0, pageset.Span{}, fmt.Errorf("%w: log record of kind %d", ErrDamaged, kind)
}

// indexLog is the log that a store writes.
type indexLog struct{ *os.File }

// append adds records. The caller holds the store's mu, so that the order of records is
// the order of changes.
func (l indexLog) append(records []byte) error {
	if len(records) == 0 {
		return nil
	}
	if _, err := l.Write(records); err != nil {
		return fmt.Errorf("append to the index log: %w", err)
	}
	return nil
}

// logReader rebuilds an index from a log.
type logReader struct {
	log   *os.File
	at    int64 // in bytes: what lies before is in the index
	index index
	buf   []byte
}

func newLogReader(log *os.File) *logReader {
	return &logReader{log: log, index: make(index)}
}

// readSize is how much of a log is read at once.
const readSize = 1 << 20

// advance reads all whole records that have been added. It calls size for the length of the data
// file after it has read a record. Pages are written before their record, so the file must hold
// them.
func (r *logReader) advance(size func() (int64, error)) error {
	if r.at == 0 {
		if err := r.header(); err != nil {
			return err
		}
	}
	if r.buf == nil {
		r.buf = make([]byte, readSize/recordSize*recordSize)
	}
	for {
		n, err := r.log.ReadAt(r.buf, r.at)
		if err != nil && err != io.EOF {
			return fmt.Errorf("read the index log: %w", err)
		}
		if n < recordSize {
			return nil
		}
		length, err := size()
		if err != nil {
			return err
		}
		if err := r.take(r.buf[:n/recordSize*recordSize], length); err != nil {
			return err
		}
	}
}

func (r *logReader) header() error {
	head := make([]byte, headerSize)
	if n, err := r.log.ReadAt(head, 0); err != nil && err != io.EOF {
		return fmt.Errorf("read the index log: %w", err)
	} else if n < headerSize || string(head) != string(logHeader()) {
		return fmt.Errorf("%w: header of the index log", ErrDamaged)
	}
	r.at = headerSize
	return nil
}

func (r *logReader) take(records []byte, size int64) error {
	for ; len(records) > 0; records = records[recordSize:] {
		kind, vpid, sp, err := decodeRecord(records[:recordSize], size)
		if err != nil {
			return err
		}
		t := r.index.of(vpid)
		if kind == recordDrop {
			t.Cut(sp.Start, sp.End)
		} else {
			t.Put(sp)
		}
		r.at += recordSize
	}
	return nil
}
