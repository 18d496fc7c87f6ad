package pages

import (
	"fmt"
	"slices"
	"sync"

	"github.com/migrate-hpc/migrate/checkpoint/image"
)

// queue hands out the pages that are still to be sent, to several workers.
type queue struct {
	mu   sync.Mutex
	left []piece // whole regions, but the first may have been begun
}

func newQueue(tasks map[image.VPID]int, regions map[image.VPID][]image.Region) (*queue, error) {
	q := &queue{}
	for vpid, list := range regions {
		for _, r := range list {
			if !r.Lazy {
				continue
			}
			pid, ok := tasks[vpid]
			if !ok {
				return nil, fmt.Errorf("process %d has lazy memory, but its pid is not known", vpid)
			}
			if r.Pages <= 0 || r.Addr%image.PageSize != 0 {
				return nil, fmt.Errorf("process %d: region of %d pages at %#x", vpid, r.Pages, r.Addr)
			}
			q.left = append(q.left, piece{vpid: vpid, pid: pid, addr: r.Addr, pages: r.Pages})
		}
	}
	slices.SortFunc(q.left, byPlace)
	return q, nil
}

// next appends one frame's worth of pieces, none when all are handed out.
func (q *queue) next(pieces []piece) []piece {
	q.mu.Lock()
	defer q.mu.Unlock()
	room := int64(maxFrame)
	for len(q.left) > 0 {
		first := &q.left[0]
		n := min(first.pages, (room-image.RunHeaderSize)/image.PageSize)
		if n <= 0 {
			break
		}
		p := *first
		p.pages = n
		pieces = append(pieces, p)
		room -= image.RunHeaderSize + p.size()
		first.addr += uint64(p.size())
		if first.pages -= n; first.pages == 0 {
			q.left = q.left[1:]
		}
	}
	return pieces
}
