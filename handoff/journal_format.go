package handoff

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
)

// MaxJournalFile bounds a journal file in bytes; a move makes five records, and a few more when it
// is recovered.
const MaxJournalFile = 16 << 20

// ErrDamaged says that a journal file does not hold what was written to it.
var ErrDamaged = errors.New("the journal of this move is damaged")

type journalLine struct {
	CRC    string          `json:"crc32c"`
	Record json.RawMessage `json:"record"`
}

func encodeLine(r Record) ([]byte, error) {
	if err := r.check(); err != nil {
		return nil, err
	}
	value, err := json.Marshal(r)
	if err != nil {
		return nil, fmt.Errorf("encode record of move %s: %w", r.Move, err)
	}
	if len(value) > MaxRecord {
		return nil, fmt.Errorf("record of move %s: %d bytes, above %d", r.Move, len(value), MaxRecord)
	}
	return fmt.Appendf(nil, `{"crc32c":%q,"record":%s}`, checksum(value), value), nil
}

func checksum(p []byte) string {
	return fmt.Sprintf("%08x", crc32.Checksum(p, crc32.MakeTable(crc32.Castagnoli)))
}

func decodeLine(line []byte) (Record, error) {
	var l journalLine
	if err := json.Unmarshal(line, &l); err != nil {
		return Record{}, err
	}
	if l.CRC != checksum(l.Record) {
		return Record{}, fmt.Errorf("checksum is %.16q, and should be %q", l.CRC, checksum(l.Record))
	}
	var r Record
	if err := json.Unmarshal(l.Record, &r); err != nil {
		return Record{}, err
	}
	if r.Kind == "" {
		r.Kind = kindOfOlder(r)
	}
	return r, r.check()
}

// kindOfOlder is the kind of a record that was written before records had one: only checkpoints
// and restores had something of the caller in them.
func kindOfOlder(r Record) Kind {
	switch {
	case r.Extra == nil:
		return KindMove
	case r.Role == RoleTarget:
		return KindRestore
	}
	return KindCheckpoint
}

// decodeFile returns the records of a move with their lines, in order. torn says that a last line
// was cut short or lacks its newline, and the file must be written anew before more is appended.
// With an error, the records before the damage are returned. The first record appears whole or not
// at all, so a file without it is damaged.
func decodeFile(move MoveID, data []byte) (records []Record, lines [][]byte, torn bool, err error) {
	for number := 1; len(data) > 0; number++ {
		line, rest, whole := bytes.Cut(data, []byte{'\n'})
		r, err := decodeLine(line)
		if err != nil && !whole && len(line) > 0 { // its newline may be damaged, and the record is there
			if last, again := decodeLine(line[:len(line)-1]); again == nil {
				r, line, err = last, line[:len(line)-1], nil
			}
		}
		if err == nil {
			err = follows(move, records, r)
		}
		if err != nil && !whole && len(records) > 0 {
			return records, lines, true, nil
		}
		if err != nil {
			return records, lines, false, fmt.Errorf("journal of move %s, line %d: %w: %w", move, number, err, ErrDamaged)
		}
		records, lines, torn, data = append(records, r), append(lines, line), !whole, rest
	}
	if len(records) == 0 {
		return nil, nil, false, fmt.Errorf("journal of move %s is empty: %w", move, ErrDamaged)
	}
	return records, lines, torn, nil
}

// jobOf is the job that a damaged file is about, by those of its lines that can be read: all of
// them name it. It is "" if none can be read or they do not agree. Lines of another move than move,
// unless that is "", do not belong into the file.
func jobOf(move MoveID, data []byte) (job string) {
	for line := range bytes.SplitSeq(data, []byte{'\n'}) {
		r, err := decodeLine(line)
		if err != nil {
			continue
		}
		if move != "" && r.Move != move || job != "" && r.Job != job {
			return ""
		}
		job = r.Job
	}
	return job
}

// follows checks what all records of one move have in common.
func follows(move MoveID, before []Record, r Record) error {
	if r.Move != move {
		return fmt.Errorf("it is a record of move %s", r.Move)
	}
	if len(before) == 0 {
		return nil
	}
	first := before[0]
	if r.Kind != first.Kind || r.Job != first.Job || r.Role != first.Role || r.Epoch != first.Epoch || r.Peer != first.Peer || r.BootID != first.BootID {
		return fmt.Errorf("move %s: kind, job, role, peer, epoch and boot stay as they are during a move", move)
	}
	return nil
}
