package main

import (
	"errors"
	"fmt"
	"math"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/migrate-hpc/migrate/job"
)

// absolute is path as seen from dir; "" stays "".
func absolute(dir, path string) string {
	if path == "" || filepath.IsAbs(path) {
		return cleanUnlessEmpty(path)
	}
	return filepath.Join(dir, path)
}

func cleanUnlessEmpty(path string) string {
	if path == "" {
		return ""
	}
	return filepath.Clean(path)
}

// parseBind reads SRC[:DST[:ro]]; SRC may be relative to dir.
func parseBind(dir, s string) (job.Bind, error) {
	f := strings.Split(s, ":")
	if len(f) > 3 || f[0] == "" {
		return job.Bind{}, fmt.Errorf("--bind %q is not SRC[:DST[:ro]]", s)
	}
	b := job.Bind{Source: absolute(dir, f[0])}
	b.Target = b.Source
	if len(f) > 1 {
		if !filepath.IsAbs(f[1]) {
			return job.Bind{}, fmt.Errorf("--bind %q: the path in the job must be absolute", s)
		}
		b.Target = filepath.Clean(f[1])
	}
	if len(f) > 2 {
		if f[2] != "ro" && f[2] != "rw" {
			return job.Bind{}, fmt.Errorf("--bind %q: %q is neither ro nor rw", s, f[2])
		}
		b.ReadOnly = f[2] == "ro"
	}
	return b, nil
}

// parseUlimit reads NAME=SOFT[:HARD] in the kernel's units; HARD is SOFT if it is
// left out.
func parseUlimit(s string) (job.Rlimit, error) {
	name, value, ok := strings.Cut(s, "=")
	if !ok || name == "" {
		return job.Rlimit{}, fmt.Errorf("--ulimit %q is not NAME=SOFT[:HARD]", s)
	}
	softText, hardText, two := strings.Cut(value, ":")
	soft, err := parseLimit(softText)
	hard := soft
	if err == nil && two {
		hard, err = parseLimit(hardText)
	}
	if err != nil {
		return job.Rlimit{}, fmt.Errorf("--ulimit %q: %w", s, err)
	}
	return job.Rlimit{Name: strings.ToLower(name), Soft: soft, Hard: hard}, nil
}

func parseLimit(s string) (uint64, error) {
	if s == "unlimited" || s == "-1" {
		return job.Unlimited, nil
	}
	n, err := strconv.ParseUint(s, 10, 64)
	if err != nil {
		return 0, fmt.Errorf("%q is neither a number nor unlimited", s)
	}
	return n, nil
}

// parseSize reads a number of bytes with an optional unit, powers of 1024: 512M,
// 2G, 1.5GiB. "" is 0.
func parseSize(s string) (int64, error) {
	if s == "" {
		return 0, nil
	}
	digits := strings.TrimRight(s, "bBiIkKmMgGtT")
	unit := strings.ToLower(s[len(digits):])
	shift, ok := map[string]int{
		"": 0, "b": 0, "k": 10, "kb": 10, "kib": 10, "m": 20, "mb": 20, "mib": 20,
		"g": 30, "gb": 30, "gib": 30, "t": 40, "tb": 40, "tib": 40,
	}[unit]
	n, err := strconv.ParseFloat(digits, 64)
	if n = math.Ldexp(n, shift); !ok || err != nil || !(n >= 1 && n < math.MaxInt64) {
		return 0, fmt.Errorf("%q is no size such as 512M or 2G", s)
	}
	return int64(n), nil
}

// parseCPUs reads a number of CPUs such as 1.5 into thousandths. "" is 0.
func parseCPUs(s string) (int64, error) {
	if s == "" {
		return 0, nil
	}
	n, err := strconv.ParseFloat(s, 64)
	if milli := math.Round(n * 1000); err == nil && milli >= 1 && milli < 1e9 {
		return int64(milli), nil
	}
	return 0, fmt.Errorf("%q is no number of CPUs such as 2 or 1.5", s)
}

// parseNode reads NODE[=HOST:PORT].
func parseNode(s string) (node, addr string, err error) {
	node, addr, named := strings.Cut(s, "=")
	if node == "" || named && !strings.Contains(addr, ":") {
		return "", "", fmt.Errorf("%q is not NODE or NODE=HOST:PORT", s)
	}
	return node, addr, nil
}

// parsePeers reads NAME=HOST:PORT several times.
func parsePeers(list []string) (map[string]string, error) {
	peers := map[string]string{}
	for _, s := range list {
		node, addr, err := parseNode(s)
		if err == nil && addr == "" {
			err = fmt.Errorf("%q has no =HOST:PORT", s)
		}
		if err == nil && peers[node] != "" {
			err = fmt.Errorf("node %s is there twice", node)
		}
		if err != nil {
			return nil, fmt.Errorf("--peer: %w", err)
		}
		peers[node] = addr
	}
	return peers, nil
}

var errClock = errors.New("--clock is continuous or elapsed")

func checkClock(s string) error {
	if s != "continuous" && s != "elapsed" {
		return errClock
	}
	return nil
}
