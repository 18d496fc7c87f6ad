package socketoptions

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/migrate-hpc/migrate/criu/image"
	"github.com/migrate-hpc/migrate/stream"
)

// fileName is the file among CRIU's images that holds the options of the job's sockets, in JSON.
// CRIU does not look at it.
const fileName = "migrate-sockets.json"

const (
	maxFile   = 64 << 20 // bytes of it; a socket takes 40 and more
	maxGroups = 4096     // that a socket has joined; igmp_max_memberships allows 20 unless an operator raises it
	maxFD     = 1 << 30  // above what any kernel allows (fs.nr_open)
)

// record is what crosses.
type record struct {
	Kinds   []kindRecord   `json:"kinds"`
	Sockets []socketRecord `json:"sockets"`
}

// kindRecord has what a new socket of the kind has on the source.
type kindRecord struct {
	kind
	Values values `json:"values"`
}

// socketRecord is a socket, found by one of its descriptors, and what it has beside that.
type socketRecord struct {
	PID    stream.VPID `json:"pid"`
	FD     int         `json:"fd"`
	Kind   int         `json:"kind"` // in Kinds
	Values values      `json:"values,omitempty"`
	Groups []group     `json:"groups,omitempty"`
}

func (r record) write(images string) error {
	data, err := json.Marshal(r)
	if err != nil {
		return err
	}
	if len(data) > maxFile {
		return fmt.Errorf("socket options: %w: %d bytes, above %d", image.ErrSize, len(data), maxFile)
	}
	//house:allow os.WriteFile: images are synced as a whole when they are sealed
	return os.WriteFile(filepath.Join(images, fileName), data, 0o600)
}

// readRecord returns an empty one for a job without sockets, and for an older source.
func readRecord(images string) (r record, err error) {
	data, err := image.ReadBounded(filepath.Join(images, fileName), maxFile)
	if errors.Is(err, image.ErrMissing) {
		return r, nil
	}
	if err == nil {
		err = json.Unmarshal(data, &r)
	}
	if err == nil {
		err = r.check()
	}
	if err != nil {
		return record{}, fmt.Errorf("socket options: %w", err)
	}
	return r, nil
}

// check refuses what no source writes.
func (r record) check() error {
	sizes := map[string]int{}
	for _, o := range options {
		sizes[o.name] = max(o.size, 4)
	}
	known := func(v values) error {
		for name, value := range v {
			if size, ok := sizes[name]; !ok || len(value) > size {
				return fmt.Errorf("%w: %q of %d bytes; a newer migrate may know it", image.ErrFormat, name, len(value))
			}
		}
		return nil
	}
	for _, k := range r.Kinds {
		if err := known(k.Values); err != nil {
			return err
		}
	}
	for _, s := range r.Sockets {
		if s.Kind < 0 || s.Kind >= len(r.Kinds) || s.FD < 0 || s.FD > maxFD || len(s.Groups) > maxGroups {
			return fmt.Errorf("%w: descriptor %d of process %d, of kind %d, in %d groups", image.ErrFormat, s.FD, s.PID, s.Kind, len(s.Groups))
		}
		if err := known(s.Values); err != nil {
			return err
		}
		for _, g := range s.Groups {
			if !g.valid() {
				return fmt.Errorf("%w: group %s on interface %d", image.ErrFormat, g.Address, g.Interface)
			}
		}
	}
	return nil
}
