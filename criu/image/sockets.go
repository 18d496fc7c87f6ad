package image

import (
	"fmt"
	"path"
	"strings"

	"github.com/checkpoint-restore/go-criu/v7/crit/images/fdinfo"
	"google.golang.org/protobuf/proto"
)

// SocketNames returns the paths in the job to which Unix sockets are bound, those of
// sockets whose name is gone included: whatever CRIU removes and makes anew. A name in a mount
// namespace inside the job's is told as PID 1 sees the file, if it does.
func SocketNames(dir string) ([]string, error) {
	nested, err := nestedMountsOf(dir)
	if err != nil {
		return nil, err
	}
	var names []string
	err = eachFile(dir, func(record []byte) error {
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
		if name, ok := nested.inJob(e.GetUsk().GetMntId(), name); ok {
			names = append(names, name)
		}
		return nil
	})
	return names, err
}
