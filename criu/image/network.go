package image

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Network says who brings back the job's network namespace.
type Network string

const (
	// NetworkSaved: CRIU, from what it has saved of links, addresses, routes, rules
	// and packet filters.
	NetworkSaved Network = "saved"
	// NetworkEmpty: CRIU makes an empty one, and it is set up again from the job's
	// specification.
	NetworkEmpty Network = "empty"
	// NetworkInherited: CRIU does not know that there is one. It works in the job's
	// namespace on the source, and in a new one on the target, which the job inherits
	// and which is set up again from the job's specification.
	NetworkInherited Network = "inherited"
)

// networkName is the file among CRIU's images that holds a Network. CRIU does not
// look at it. Without it the network is saved.
const networkName = "migrate-network"

// SetNetwork notes in the image directory who brings the network back.
func SetNetwork(dir string, n Network) error {
	//house:allow os.WriteFile: images are synced as a whole when they are sealed
	return os.WriteFile(filepath.Join(dir, networkName), []byte(n), filePerm)
}

// HasConnections tells whether the images have TCP connections.
func HasConnections(dir string) (bool, error) {
	d, err := os.Open(dir)
	if err != nil {
		return false, err
	}
	defer d.Close()
	names, err := d.Readdirnames(-1)
	return slices.ContainsFunc(names, func(name string) bool { return strings.HasPrefix(name, "tcp-stream-") }), err
}

// NetworkOf reads what SetNetwork has noted.
func NetworkOf(dir string) (Network, error) {
	const longest = 64
	data, err := ReadBounded(filepath.Join(dir, networkName), longest)
	if errors.Is(err, ErrMissing) {
		return NetworkSaved, nil
	}
	if err != nil {
		return "", err
	}
	switch n := Network(data); n {
	case NetworkSaved, NetworkEmpty, NetworkInherited:
		return n, nil
	}
	return "", fmt.Errorf("%s: %w: %q", networkName, ErrFormat, data)
}
