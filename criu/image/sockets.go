package image

import (
	"fmt"
	"path"
	"strings"

	"github.com/checkpoint-restore/go-criu/v7/crit/images/fdinfo"
	"google.golang.org/protobuf/proto"
)

// SocketNames returns the paths in the job to which Unix sockets are bound, those of
// sockets whose name is gone included: whatever CRIU removes and makes anew.
func SocketNames(dir string) ([]string, error) {
	var names []string
	err := eachFile(dir, func(record []byte) error {
		var e fdinfo.FileEntry
		if err := (proto.UnmarshalOptions{AllowPartial: true}).Unmarshal(record, &e); err != nil {
			return fmt.Errorf("%w: %w", ErrFormat, err)
		}
		name, _, _ := strings.Cut(string(e.GetUsk().GetName()), "\x00") // an abstract name begins with one
		if name == "" {
			return nil
		}
		if !path.IsAbs(name) {
			name = path.Join(e.GetUsk().GetNameDir(), name)
		}
		names = append(names, name)
		return nil
	})
	return names, err
}
