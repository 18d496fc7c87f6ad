package image

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/checkpoint-restore/go-criu/v7/crit/images/mm"
	"github.com/checkpoint-restore/go-criu/v7/crit/images/vma"
	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/proto"
)

// Bits of vma_entry.status, as above.
const (
	areaRegular  = 1 << 0
	anonPrivate  = 1 << 9
	noProtWrite  = 1 << 29
	leastReserve = 1 << 20 // bytes; a smaller area costs a restore nothing
)

// ReserveAsBefore has a restore map address space that is only reserved as its program did. That is
// private anonymous memory without write permission and without a page, such as that of a run-time
// system. CRIU maps all private memory writable, until its contents are there. The kernel then
// counts it as used, and refuses what is larger than the node's memory.
//
// Such areas are marked in two ways. They are no longer called private, so CRIU does not map them
// beforehand. And they are said to get no contents, so they are not mapped writable. The flags
// of mmap(2) still make them private.
func ReserveAsBefore(dir string) error {
	all, err := Pagemaps(dir)
	if err != nil {
		return err
	}
	for vpid, regions := range all {
		name := filepath.Join(dir, fmt.Sprintf("mm-%d.img", vpid))
		if err := reserveAsBefore(name, regions); err != nil {
			return fmt.Errorf("reserved address space of process %d: %w", vpid, err)
		}
	}
	return nil
}

func reserveAsBefore(name string, regions []Region) error {
	var space mm.MmEntry
	if err := readMessage(name, magicMM, maxMMImage, &space); err != nil {
		return err
	}
	changed := false
	for _, area := range space.GetVmas() {
		for len(regions) > 0 && regions[0].End() <= area.GetStart() {
			regions = regions[1:]
		}
		if onlyReserved(area) && (len(regions) == 0 || regions[0].Addr >= area.GetEnd()) {
			area.Status = proto.Uint32(areaRegular | noProtWrite)
			changed = true
		}
	}
	if !changed {
		return nil
	}
	msg, err := proto.Marshal(&space)
	if err != nil {
		return err
	}
	head, err := ReadBounded(name, maxMMImage)
	if err != nil {
		return err
	}
	//house:allow os.WriteFile: images are synced as a whole when they are sealed
	return os.WriteFile(name, appendRecord(head[:8], msg), 0o600) // the magic numbers were checked
}

// onlyReserved tells whether an area can be mapped so if it has no page.
func onlyReserved(a *vma.VmaEntry) bool {
	const must, mustNot = unix.MAP_ANONYMOUS | unix.MAP_PRIVATE, unix.MAP_GROWSDOWN | unix.MAP_HUGETLB | unix.MAP_LOCKED
	return a.GetStatus() == areaRegular|anonPrivate && a.GetProt()&unix.PROT_WRITE == 0 &&
		a.GetFlags()&must == must && a.GetFlags()&mustNot == 0 && a.GetEnd()-a.GetStart() >= leastReserve
}
