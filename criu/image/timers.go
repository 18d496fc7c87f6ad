package image

import (
	"fmt"

	"github.com/checkpoint-restore/go-criu/v7/crit/images/fdinfo"
	"google.golang.org/protobuf/proto"
)

// WakeTimers keeps periodic timerfds going that had expired, and had not been read
// since, when the job was saved. The kernel moves such a timer on only when it is
// read (fs/timerfd.c), and until then shows no time left: CRIU restores it as one
// that was switched off. It is made to expire at once instead. One that was
// switched off on purpose has no expirations waiting.
func WakeTimers(dir string) error {
	return editFiles(dir, wakeTimer)
}

func wakeTimer(record []byte) ([]byte, error) {
	var e fdinfo.FileEntry
	if err := proto.Unmarshal(record, &e); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrFormat, err)
	}
	t := e.GetTfd()
	stopped := t.GetVsec() == 0 && t.GetVnsec() == 0
	periodic := t.GetIsec() != 0 || t.GetInsec() != 0
	if !stopped || !periodic || t.GetTicks() == 0 {
		return record, nil
	}
	t.Vnsec = proto.Uint64(1)
	return proto.Marshal(&e)
}
