package source

import (
	"encoding/json"
	"testing"

	"github.com/migrate-hpc/migrate/agent/peer"
	"github.com/migrate-hpc/migrate/restore/uffd"
	"github.com/migrate-hpc/migrate/stream"
	"github.com/migrate-hpc/migrate/transport"
)

// FuzzWants has a target want anything. What is queued is bounded, and comes out again.
func FuzzWants(f *testing.F) {
	for _, w := range []peer.Wants{{}, {Wants: []uffd.PageRequest{{VPID: 7, Addr: 1 << 20, Pages: 3}, {VPID: -1, Addr: 1, Pages: 255, Urgent: true}}}} {
		data, err := json.Marshal(w)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data, uint8(1))
		f.Add(data, uint8(200))
	}
	f.Add([]byte(`{"wants":[{"pages":-9223372036854775808},{"pages":4503599627370497}]}`), uint8(2))
	f.Fuzz(func(t *testing.T, body []byte, times uint8) {
		var w peer.Wants
		if (transport.Message{Type: peer.SayWant, Body: body}).Decode(&w) != nil {
			return
		}
		q := newWantQueue()
		for range times {
			if q.push(w.Wants) != nil {
				break
			}
		}
		left := len(q.urgent) + len(q.other)
		var bytes int64
		for ; left > 0; left-- {
			next, ok := q.pop()
			if !ok || next.Pages < 1 || next.Pages > stream.MaxRunPages {
				t.Fatalf("%+v, %v", next, ok)
			}
			bytes += next.Pages * stream.PageSize
		}
		if bytes > maxPulled {
			t.Errorf("%d bytes are to be read", bytes)
		}
	})
}
