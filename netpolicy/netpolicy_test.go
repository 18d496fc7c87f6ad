package netpolicy

import (
	"strings"
	"testing"

	"github.com/migrate-hpc/migrate/job"
)

func parse(t *testing.T, flags ...string) Policy {
	t.Helper()
	p, err := Parse(flags)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// asks is the specification of user 1000, group 1000, who is in group 2000, too.
func asks(bridge, address string) job.Spec {
	return job.Spec{UID: 1000, GID: 1000, Groups: []uint32{2000}, Network: job.Network{Mode: bridge, Address: address, MAC: "02:00:00:00:00:07"}}
}

func TestRulesThatMakeNoSense(t *testing.T) {
	for _, flag := range []string{
		"", "br0", "br0=", "=10.0.0.0/24", "none=10.0.0.0/24", "br0=10.0.0.0", "br0=10.0.0.7/24", "br0=10.0.0.0/33", "br0=10.0.0.0/24,", "br0=10.0.0.0/24;10.0.1.0/24",
		"br0=10.0.0.9-10.0.0.8", "br0=10.0.0.1-fd00::1", "br0=10.0.0.1-", "br0=::ffff:10.0.0.0/120", "br0=::ffff:10.0.0.1-::ffff:10.0.0.2", "br0=fe80::1%eth0-fe80::2%eth0",
		"br0=10.0.0.0/24@", "br0=10.0.0.0/24@no-such-group", "br0=10.0.0.0/24@-1", "br0=10.0.0.0/24@4294967296",
	} {
		if p, err := Parse([]string{flag}); err == nil || !strings.Contains(err.Error(), "--network "+flag+": ") {
			t.Errorf("%q is %v (%v)", flag, p, err)
		}
	}
}

func TestWhoMayHaveWhat(t *testing.T) {
	both := []string{"br0=10.0.0.0/24,fd00:3::/64@2000", "br0=10.1.0.10-10.1.0.19@1000", "br1=10.2.0.0/24", "br2=10.3.0.0/24@root", "br0=10.4.0.0/24@7"}
	for _, c := range []struct {
		bridge, address string
		why             string // "" = allowed
	}{
		{"br0", "10.0.0.1/24", ""}, {"br0", "10.0.0.254/16", ""}, {"br0", "fd00:3::1/64", ""}, {"br0", "FD00:0003:0:0::7/64", ""},
		{"br0", "10.1.0.10/24", ""}, {"br0", "10.1.0.19/32", ""}, {"br1", "10.2.0.7/24", ""}, {job.NetworkNone, "", ""}, {"", "", ""},
		{"br0", "10.0.0.0/16", "10.0.0.0"}, {"br0", "10.0.0.255/16", "10.0.0.255"}, {"br0", "fd00:3::/48", "not fd00:3::"},
		{"br0", "10.0.1.1/24", "10.0.0.0/24, fd00:3::/64, 10.1.0.10-10.1.0.19 on bridge br0"}, {"br0", "10.1.0.9/24", "not 10.1.0.9"}, {"br0", "10.1.0.20/24", "not 10.1.0.20"},
		{"br0", "10.2.0.7/24", "not 10.2.0.7"}, {"br0", "10.4.0.7/24", "not 10.4.0.7"}, {"br0", "::ffff:10.0.0.7/120", "not ::ffff:10.0.0.7"},
		{"br1", "10.0.0.7/24", "10.2.0.0/24 on bridge br1"}, {"br2", "10.3.0.7/24", "members of root, of which user 1000 is none"},
		{"br3", "10.0.0.7/24", "no user but root may use bridge br3"}, {"br0", "nonsense", "no address"}, {"BR0", "10.0.0.7/24", "bridge BR0"},
	} {
		s := asks(c.bridge, c.address)
		denied := parse(t, both...).Judge(s)
		if (denied == nil) != (c.why == "") || denied != nil && !strings.Contains(denied.Cause, c.why) {
			t.Errorf("%s on %s: %v", c.address, c.bridge, denied)
		}
		if denied := parse(t).Judge(s); denied == nil && s.Network.Bridged() {
			t.Errorf("without a rule user 1000 may have %s on %s", c.address, c.bridge)
		}
		s.UID = 0
		if denied := parse(t).Judge(s); denied != nil {
			t.Errorf("root may not: %v", denied)
		}
	}
}

func TestTheRuleThatARefusalNamesAllowsIt(t *testing.T) {
	for _, s := range []job.Spec{asks("br0", "10.0.0.7/24"), asks("br7", "fd00:3::7/64"), asks("br0", "10.0.0.7/32")} {
		denied := parse(t).Judge(s)
		_, flag, _ := strings.Cut(denied.Remedy, "`--network ")
		flag, _, ok := strings.Cut(flag, "`")
		if !ok {
			t.Fatalf("no flag in %q", denied.Remedy)
		}
		if denied := parse(t, flag).Judge(s); denied != nil {
			t.Errorf("with --network %s: %v", flag, denied)
		}
		s.GID, s.Groups = 3000, nil
		if parse(t, flag).Judge(s) == nil {
			t.Errorf("--network %s gives it to all users", flag)
		}
	}
}

func TestAPlainUserTakesNoCardsMAC(t *testing.T) {
	p := parse(t, "br0=10.0.0.0/24")
	for mac, want := range map[string]bool{"02:00:00:00:00:07": true, "52:54:00:12:34:56": true, "00:1b:21:00:00:07": false, "a0:36:9f:00:00:07": false, "": true} {
		s := asks("br0", "10.0.0.7/24")
		s.Network.MAC = mac
		if denied := p.Judge(s); (denied == nil) != want {
			t.Errorf("%s: %v", mac, denied)
		}
	}
}
