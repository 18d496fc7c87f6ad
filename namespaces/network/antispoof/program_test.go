package antispoof

import (
	"net/netip"
	"testing"

	"golang.org/x/net/bpf"
)

// machine runs a job's program but for what only the kernel knows of a frame.
func machine(t *testing.T, address netip.Addr) *bpf.VM {
	t.Helper()
	rules, err := program(Identity{MAC: ownMAC, Address: address})
	if err != nil {
		t.Fatal(err)
	}
	vm, err := bpf.NewVM(rules)
	if err != nil {
		t.Fatal(err)
	}
	return vm
}

func passes(t *testing.T, vm *bpf.VM, frame []byte) bool {
	t.Helper()
	n, err := vm.Run(frame)
	if err != nil {
		t.Fatal(err)
	}
	return n != 0
}

func TestAJobMaySpeakForItselfOnly(t *testing.T) {
	for _, c := range []struct {
		address         netip.Addr
		allowed, denied [][]attempt
	}{
		{own4, [][]attempt{allowed4(), allowed6(local)}, [][]attempt{refused4(), refused6(local), refusedAlways(), allowed6(own6)}},
		{own6, [][]attempt{allowed6(own6), allowed6(local)}, [][]attempt{refused6(own6), refused6(local), refusedAlways(), allowed4(), refused4()}},
	} {
		vm := machine(t, c.address)
		for want, lists := range map[bool][][]attempt{true: c.allowed, false: c.denied} {
			for _, list := range lists {
				for _, a := range list {
					if a.name == "MLD report before there is an address" && !want {
						continue // of no address in particular
					}
					if got := passes(t, vm, a.frame); got != want {
						t.Errorf("with %s, %s passes: %v", c.address, a.name, got)
					}
				}
			}
		}
	}
}

func TestAFrameThatIsCutShortPassesNoCheckThatItDoesNotReach(t *testing.T) {
	for _, address := range []netip.Addr{own4, own6} {
		vm := machine(t, address)
		for _, list := range [][]attempt{refused4(), refused6(local), refused6(own6)} {
			for _, a := range list {
				for n := range a.frame {
					if passes(t, vm, a.frame[:n]) {
						t.Errorf("with %s, %s passes when it is cut to %d bytes", address, a.name, n)
					}
				}
			}
		}
	}
}

func TestAnIdentityThatIsNoneHasNoProgram(t *testing.T) {
	for _, id := range []Identity{{}, {MAC: ownMAC}, {Address: own4}, {MAC: ownMAC[:5], Address: own4}, {MAC: ownMAC, Address: netip.MustParseAddr("::ffff:10.3.0.7")}} {
		if _, err := program(id); err == nil {
			t.Errorf("a program for %+v", id)
		}
	}
}
