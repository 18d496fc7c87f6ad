package job

import (
	"errors"
	"strings"
	"testing"
)

func valid() Spec {
	return Spec{
		Name: "md-run.3", Hostname: "node-a.cluster", WorkDir: "/home/ada", Args: []string{"./solve", "-n", "8"},
		Env: []string{"PATH=/bin", "EMPTY="}, UID: 1000, GID: 1000, Groups: []uint32{4, 27}, Root: "/images/el9",
		Binds:   []Bind{{Source: "/scratch", Target: "/scratch"}, {Source: "/data", Target: "/mnt/data", ReadOnly: true}},
		Stdout:  "/home/ada/out",
		Rlimits: []Rlimit{{"nofile", 1024, 4096}, {"core", 0, Unlimited}},
		Limits:  Limits{MemoryBytes: 1 << 30, CPUMilli: 1500, Pids: 64},
		Network: Network{Mode: "br0", Address: "10.0.0.7/24", Gateway: "10.0.0.1", MAC: "02:00:00:00:00:07"},
		UserNS:  true, UIDBase: 1<<30 + 7*IDRange, Init: true,
	}
}

func TestValidSpecsPass(t *testing.T) {
	for name, s := range map[string]Spec{
		"everything": valid(),
		"least":      {Args: []string{"true"}},
		"net none":   {Args: []string{"true"}, Network: Network{Mode: NetworkNone}},
		"ipv6":       {Args: []string{"true"}, Network: Network{Mode: "br0", Address: "fd00::7/64", Gateway: "fd00::1"}},
	} {
		if err := s.Validate(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestEveryFaultOfASpecIsNamedWithItsFieldAndARemedy(t *testing.T) {
	for _, c := range []struct {
		name, field string
		spoil       func(*Spec)
	}{
		{"name with slash", "name", func(s *Spec) { s.Name = "a/b" }},
		{"long name", "name", func(s *Spec) { s.Name = strings.Repeat("a", 65) }},
		{"hostname with space", "hostname", func(s *Spec) { s.Hostname = "a b" }},
		{"hostname with hyphen first", "hostname", func(s *Spec) { s.Hostname = "-a" }},
		{"hostname with empty label", "hostname", func(s *Spec) { s.Hostname = "a..b" }},
		{"no command", "args", func(s *Spec) { s.Args = nil }},
		{"empty command", "args", func(s *Spec) { s.Args = []string{""} }},
		{"argument with NUL", "args", func(s *Spec) { s.Args = []string{"a", "b\x00"} }},
		{"too large", "args", func(s *Spec) { s.Env = []string{"A=" + strings.Repeat("a", MaxCommandBytes)} }},
		{"too many", "args", func(s *Spec) { s.Args = make([]string, MaxEntries+1); s.Args[0] = "a" }},
		{"env without =", "env", func(s *Spec) { s.Env = []string{"A"} }},
		{"env without key", "env", func(s *Spec) { s.Env = []string{"=a"} }},
		{"uid -1", "uid", func(s *Spec) { s.UID = noID }},
		{"group -1", "uid", func(s *Spec) { s.Groups = []uint32{noID} }},
		{"many groups", "groups", func(s *Spec) { s.Groups = make([]uint32, MaxGroups+1) }},
		{"range without namespace", "uid_base", func(s *Spec) { s.UserNS = false }},
		{"range of people", "uid_base", func(s *Spec) { s.UIDBase = IDRange }},
		{"range that ends in the pool", "uid_base", func(s *Spec) { s.UIDBase = FirstBase - IDRange }},
		{"range behind the pool", "uid_base", func(s *Spec) { s.UIDBase = EndBase }},
		{"range that is not aligned", "uid_base", func(s *Spec) { s.UIDBase++ }},
		{"relative directory", "work_dir", func(s *Spec) { s.WorkDir = "home" }},
		{"directory with ..", "work_dir", func(s *Spec) { s.WorkDir = "/home/../etc" }},
		{"relative root", "root", func(s *Spec) { s.Root = "." }},
		{"relative output", "stdout", func(s *Spec) { s.Stdout = "out" }},
		{"NUL in path", "stderr", func(s *Spec) { s.Stderr = "/a\x00" }},
		{"bind onto /proc", "binds", func(s *Spec) { s.Binds[0].Target = "/proc/1" }},
		{"bind onto /dev", "binds", func(s *Spec) { s.Binds[0].Target = "/dev" }},
		{"bind onto /", "binds", func(s *Spec) { s.Binds[0].Target = "/" }},
		{"bind without source", "binds", func(s *Spec) { s.Binds[0].Source = "" }},
		{"two binds onto one target", "binds", func(s *Spec) { s.Binds[1].Target = "/scratch/" }},
		{"many binds", "binds", func(s *Spec) { s.Binds = make([]Bind, MaxBinds+1) }},
		{"unknown rlimit", "rlimits", func(s *Spec) { s.Rlimits[0].Name = "RLIMIT_NOFILE" }},
		{"soft above hard", "rlimits", func(s *Spec) { s.Rlimits[0].Soft = Unlimited }},
		{"rlimit twice", "rlimits", func(s *Spec) { s.Rlimits[1].Name = "nofile" }},
		{"negative memory", "limits.memory_bytes", func(s *Spec) { s.Limits.MemoryBytes = -1 }},
		{"negative cpu", "limits.cpu_milli", func(s *Spec) { s.Limits.CPUMilli = -1 }},
		{"negative pids", "limits.pids", func(s *Spec) { s.Limits.Pids = -1 }},
		{"address without link", "network", func(s *Spec) { s.Network.Mode = NetworkNone }},
		{"bridge with slash", "network.mode", func(s *Spec) { s.Network.Mode = "a/b" }},
		{"bridge name too long", "network.mode", func(s *Spec) { s.Network.Mode = "abcdefghijklmnop" }},
		{"address without prefix", "network.address", func(s *Spec) { s.Network.Address = "10.0.0.7" }},
		{"multicast address", "network.address", func(s *Spec) { s.Network.Address = "224.0.0.1/24" }},
		{"network's address", "network.address", func(s *Spec) { s.Network.Address = "10.0.0.0/24" }},
		{"broadcast address", "network.address", func(s *Spec) { s.Network.Address = "10.0.0.255/24" }},
		{"everybody's address", "network.address", func(s *Spec) { s.Network.Address = "255.255.255.255/32" }},
		{"address of no network", "network.address", func(s *Spec) { s.Network.Address = "0.0.0.7/24" }},
		{"loopback address", "network.address", func(s *Spec) { s.Network.Address = "127.0.0.2/8" }},
		{"link-local address", "network.address", func(s *Spec) { s.Network.Address = "169.254.169.254/16" }},
		{"link-local IPv6 address", "network.address", func(s *Spec) { s.Network.Address = "fe80::7/64" }},
		{"routers' IPv6 address", "network.address", func(s *Spec) { s.Network.Address = "fd00::/64" }},
		{"IPv4 address in IPv6", "network.address", func(s *Spec) { s.Network.Address = "::ffff:10.0.0.7/120" }},
		{"gateway elsewhere", "network.gateway", func(s *Spec) { s.Network.Gateway = "10.1.0.1" }},
		{"gateway is the job", "network.gateway", func(s *Spec) { s.Network.Gateway = "10.0.0.7" }},
		{"multicast mac", "network.mac", func(s *Spec) { s.Network.MAC = "01:00:00:00:00:07" }},
		{"no mac", "network.mac", func(s *Spec) { s.Network.MAC = "00:00:00:00:00:00" }},
		{"long mac", "network.mac", func(s *Spec) { s.Network.MAC = "02:00:00:00:00:00:00:07" }},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := valid()
			c.spoil(&s)
			var wrong *SpecError
			if err := s.Validate(); !errors.As(err, &wrong) {
				t.Fatalf("passed, or no SpecError: %v", err)
			}
			if wrong.Field != c.field || wrong.Problem == "" || wrong.Remedy == "" {
				t.Errorf("first error is %+v, want one of field %s with problem and remedy", wrong, c.field)
			}
		})
	}
}

func TestValidateReportsAllFaultsAtOnce(t *testing.T) {
	s := Spec{WorkDir: "x", Stdin: "y"}
	err := s.Validate()
	for _, field := range []string{"args", "work_dir", "stdin"} {
		if !strings.Contains(err.Error(), field+":") {
			t.Errorf("%s is missing in %v", field, err)
		}
	}
}

// Base 0 would map the job's root to the node's.
func TestARecordWithoutARangeOfIDsIsRefused(t *testing.T) {
	r := full()
	r.Spec.UIDBase = 0
	if err := r.Spec.Validate(); err != nil {
		t.Errorf("as a request: %v", err)
	}
	if err := r.Validate(); err == nil || !strings.Contains(err.Error(), "uid_base") {
		t.Errorf("as a record: %v", err)
	}
	if err := store(t).Create(r); err == nil {
		t.Error("it is stored")
	}
}

func TestRangesOfIDsThatTouchDoNotShareAny(t *testing.T) {
	at := func(base uint32) Spec { return Spec{UserNS: true, UIDBase: base} }
	for other, shared := range map[uint32]bool{FirstBase: true, FirstBase + 1: true, FirstBase + IDRange - 1: true, FirstBase + IDRange: false, FirstBase - IDRange: false, 0: false} {
		if at(FirstBase).SharesIDs(at(other)) != shared || at(other).SharesIDs(at(FirstBase)) != shared {
			t.Errorf("%d: want %t", other, shared)
		}
	}
	if at(FirstBase).SharesIDs(Spec{UIDBase: FirstBase}) {
		t.Error("a job without a user namespace has a range")
	}
}
