package launch

import (
	"fmt"
	"io"
	"os"
	"path"
	"strings"

	"github.com/migrate-hpc/migrate/job"
	"github.com/migrate-hpc/migrate/namespaces"
)

// ownName is the address of a job's own name without a network, as Debian has it: 127.0.0.1 remains
// that of localhost alone.
const ownName = "127.0.1.1"

// maxHosts is how large a node's /etc/hosts may be, in bytes, so that the job's copy fits into its /dev.
const maxHosts = 512 << 10

// Paths of files that a job has of its own.
const (
	hostsPath    = "/etc/hosts"
	hostnamePath = "/etc/hostname"
)

// ownFiles are the files that tell the job its name. It sees the node's tree, where they tell the
// node's. A user who has bound something there wants that.
func ownFiles(s job.Spec) []namespaces.File {
	if s.Root != "" {
		return nil
	}
	var files []namespaces.File
	if hosts, ok := readable(hostsPath); ok && !binds(s, hostsPath) {
		files = append(files, namespaces.File{Path: hostsPath, Text: append([]byte(hostsLine(s)), hosts...)})
	}
	if _, ok := readable(hostnamePath); ok && !binds(s, hostnamePath) {
		files = append(files, namespaces.File{Path: hostnamePath, Text: []byte(s.Hostname + "\n")})
	}
	return files
}

// hostsLine stands first, since the first line with a name counts.
func hostsLine(s job.Spec) string {
	address := ownName
	if own, _, ok := strings.Cut(s.Network.Address, "/"); ok && s.Network.Bridged() {
		address = own
	}
	names := s.Hostname
	if short, _, ok := strings.Cut(s.Hostname, "."); ok {
		names += " " + short
	}
	if strings.HasPrefix(s.Hostname, "localhost") {
		return ""
	}
	return fmt.Sprintf("%s %s\n", address, names)
}

// readable reads a file of the node that all its users may read.
func readable(name string) ([]byte, bool) {
	f, err := os.Open(name)
	if err != nil {
		return nil, false
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil || !info.Mode().IsRegular() || info.Mode()&0o004 == 0 || info.Size() > maxHosts {
		return nil, false
	}
	text, err := io.ReadAll(io.LimitReader(f, maxHosts))
	return text, err == nil
}

// binds tells whether the user has bound something at a path or above it.
func binds(s job.Spec, at string) bool {
	for _, b := range s.Binds {
		if target := path.Clean(b.Target); at == target || strings.HasPrefix(at, strings.TrimSuffix(target, "/")+"/") {
			return true
		}
	}
	return false
}
