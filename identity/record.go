package identity

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
)

// Format is the version of a record that this package writes and the highest that it reads.
const Format = 1

// MaxRecord bounds a record, in bytes: some twenty for each of the threads that a kernel can
// have, and their identities.
const MaxRecord = 128 << 20

// record is the form of a Job on the wire. Threads that are alike share an identity.
type record struct {
	Format     int      `json:"format"`
	UserNS     *UserNS  `json:"user_ns,omitempty"`
	Identities []Thread `json:"identities"`
	Threads    [][3]int `json:"threads"` // pid, tid, place in Identities
	// Nested is left out for a job without nested namespaces. A reader that does not know it refuses
	// the images of others.
	Nested map[int]Nest `json:"nested,omitempty"`
}

// Encode writes a job down.
func Encode(j Job) ([]byte, error) {
	r := record{Format: Format, UserNS: j.UserNS, Nested: j.Nested}
	at := map[string]int{}
	for _, id := range j.ids() {
		t := j.Threads[id]
		key := fmt.Sprint(t)
		i, ok := at[key]
		if !ok {
			i = len(r.Identities)
			at[key] = i
			r.Identities = append(r.Identities, t)
		}
		r.Threads = append(r.Threads, [3]int{id.PID, id.TID, i})
	}
	return json.Marshal(r)
}

// Decode reads what Encode has written. Fields that it does not know are ignored.
func Decode(data []byte) (Job, error) {
	var r record
	if len(data) > MaxRecord {
		return Job{}, fmt.Errorf("record of identities: %d bytes, above %d", len(data), MaxRecord)
	}
	if err := json.NewDecoder(bytes.NewReader(data)).Decode(&r); err != nil {
		return Job{}, fmt.Errorf("record of identities: %w", err)
	}
	if r.Format < 1 || r.Format > Format {
		return Job{}, fmt.Errorf("record of identities: format %d, and this migrate reads 1 to %d", r.Format, Format)
	}
	j := Job{UserNS: r.UserNS, Nested: r.Nested, Threads: make(map[ID]Thread, len(r.Threads))}
	for _, t := range r.Identities {
		if !slices.Equal(t.Groups, SetOf(t.Groups)) {
			return Job{}, fmt.Errorf("record of identities: the groups %v are out of order", t.Groups)
		}
	}
	for _, t := range r.Threads {
		id := ID{t[0], t[1]}
		if _, twice := j.Threads[id]; twice || id.PID < 1 || id.TID < 1 || t[2] < 0 || t[2] >= len(r.Identities) {
			return Job{}, fmt.Errorf("record of identities: the entry %v cannot be", t)
		}
		j.Threads[id] = r.Identities[t[2]]
	}
	return j, nil
}
