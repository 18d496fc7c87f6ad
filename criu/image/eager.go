package image

import (
	"fmt"
	"os"
	"path/filepath"

	"google.golang.org/protobuf/encoding/protowire"
)

// SetEager has a restore take all pages from the images, in which they must be: CRIU
// marks those that may come later even if it has written them.
func SetEager(dir string) error {
	names, err := filepath.Glob(filepath.Join(dir, "pagemap-*.img"))
	if err != nil {
		return err
	}
	for _, name := range names {
		if _, ok := pagemapVPID(filepath.Base(name)); !ok {
			continue
		}
		data, err := os.ReadFile(name)
		if err == nil {
			err = clearLazy(data)
		}
		if err == nil {
			//house:allow os.WriteFile: images are synced as a whole when they are sealed
			err = os.WriteFile(name, data, 0o600)
		}
		if err != nil {
			return fmt.Errorf("pagemap %s: %w", filepath.Base(name), err)
		}
	}
	return nil
}

// clearLazy takes the mark off every region of a pagemap, in place: a number below 128
// takes one byte.
func clearLazy(data []byte) error {
	rest, err := cutMagic(data, magicPagemap)
	if err != nil {
		return err
	}
	if _, rest, err = cutRecord(rest); err != nil {
		return fmt.Errorf("head: %w", err)
	}
	for len(rest) > 0 {
		var record []byte
		if record, rest, err = cutRecord(rest); err != nil {
			return err
		}
		r, err := decodeRegion(record)
		if err != nil {
			return err
		}
		if !r.Lazy {
			continue
		}
		if !r.Present {
			return fmt.Errorf("%w: %d pages at %#x are not there", ErrFormat, r.Pages, r.Addr)
		}
		setFlags(record, flagPresent)
	}
	return nil
}

// setFlags puts another value into field 4 of a pagemap_entry that was decoded before.
func setFlags(record []byte, flags byte) {
	for msg := record; len(msg) > 0; {
		number, kind, n := protowire.ConsumeTag(msg)
		msg = msg[n:]
		if number == 4 && kind == protowire.VarintType {
			msg[0] = flags
		}
		msg = msg[protowire.ConsumeFieldValue(number, kind, msg):]
	}
}
