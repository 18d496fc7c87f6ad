package identity

import (
	"fmt"
	"os"
	"strconv"
	"strings"
)

// Kernel is what capabilities there are on a node.
type Kernel struct {
	Known    uint64 // to the kernel
	Bounding uint64 // whoever restores has no others to give
}

// AnyKernel leaves nothing out.
var AnyKernel = Kernel{Known: ^uint64(0), Bounding: ^uint64(0)}

// ThisKernel asks for those of this process.
func ThisKernel() (Kernel, error) {
	data, err := os.ReadFile("/proc/sys/kernel/cap_last_cap")
	if err != nil {
		return Kernel{}, err
	}
	last, err := strconv.Atoi(strings.TrimSpace(string(data)))
	if err != nil || last < 0 || last > 63 {
		return Kernel{}, fmt.Errorf("last capability %q: %w", data, err)
	}
	own, err := readStatus("/proc/self")
	return Kernel{Known: ^uint64(0) >> (63 - last), Bounding: own.thread.Bounding}, err
}

// can is what of want the kernel can give a thread that is like has. A capability that it
// does not know is nobody's, and one that is missing from the bounding set of whoever
// restores the job cannot be in the job's.
func (k Kernel) can(has, want Thread) Thread {
	for _, set := range []*uint64{&want.Inheritable, &want.Permitted, &want.Effective, &want.Bounding, &want.Ambient} {
		*set &= k.Known
	}
	if missing := want.Bounding &^ has.Bounding; missing&k.Bounding == 0 {
		want.Bounding &^= missing
	}
	return want
}
