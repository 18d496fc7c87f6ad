package image

import (
	"errors"
	"fmt"
	"path/filepath"

	criu_core "github.com/checkpoint-restore/go-criu/v7/crit/images/criu-core"
	"github.com/checkpoint-restore/go-criu/v7/crit/images/pstree"
	"google.golang.org/protobuf/proto"
)

const (
	magicPstree = 0x50273030
	magicCore   = 0x55053847

	maxPstreeImage = 256 << 20
	maxCoreImage   = 16 << 20
)

// RestartAreas lists the pages that hold a thread's area for restartable sequences
// (rseq(2)). The kernel writes there whenever the thread returns to user mode, which it
// does while CRIU works in it: of all of a frozen job's memory these pages alone are not
// still during a dump.
func RestartAreas(dir string) ([]Place, error) {
	data, err := readBounded(filepath.Join(dir, "pstree.img"), maxPstreeImage)
	if err != nil {
		return nil, err
	}
	rest, err := cutMagic(data, magicPstree)
	if err != nil {
		return nil, fmt.Errorf("pstree.img: %w", err)
	}
	var pages []Place
	for len(rest) > 0 {
		var record []byte
		if record, rest, err = cutRecord(rest); err != nil {
			return nil, fmt.Errorf("pstree.img: %w", err)
		}
		var e pstree.PstreeEntry
		if err := proto.Unmarshal(record, &e); err != nil {
			return nil, fmt.Errorf("pstree.img: %w: %w", ErrFormat, err)
		}
		for _, tid := range e.GetThreads() {
			area, err := restartArea(dir, tid)
			if err != nil {
				return nil, err
			}
			for _, addr := range area {
				pages = append(pages, Place{VPID: VPID(e.GetPid()), Addr: addr})
			}
		}
	}
	return pages, nil
}

// restartArea returns the pages of the area of one thread, if it has one. Of a zombie
// there is no image.
func restartArea(dir string, tid uint32) ([]uint64, error) {
	name := fmt.Sprintf("core-%d.img", tid)
	data, err := readBounded(filepath.Join(dir, name), maxCoreImage)
	if errors.Is(err, ErrMissing) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	rest, err := cutMagic(data, magicCore)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	record, _, err := cutRecord(rest)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	var e criu_core.CoreEntry
	if err := proto.Unmarshal(record, &e); err != nil {
		return nil, fmt.Errorf("%s: %w: %w", name, ErrFormat, err)
	}
	area := e.GetThreadCore().GetRseqEntry()
	if area.GetRseqAbiPointer() == 0 || area.GetRseqAbiSize() == 0 {
		return nil, nil
	}
	first := area.GetRseqAbiPointer() &^ (PageSize - 1)
	last := (area.GetRseqAbiPointer() + uint64(area.GetRseqAbiSize()) - 1) &^ (PageSize - 1)
	if last == first {
		return []uint64{first}, nil
	}
	return []uint64{first, last}, nil
}
