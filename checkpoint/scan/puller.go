package scan

import (
	"errors"
	"fmt"
	"sort"

	"golang.org/x/sys/unix"

	"github.com/migrate-hpc/migrate/criu/image"
	"github.com/migrate-hpc/migrate/stream"
)

// ErrNotLazy refuses to read memory that CRIU's pagemaps do not name as lazy: no target can lack
// it.
var ErrNotLazy = errors.New("memory that is not to be pulled")

// ErrEnded is wrapped when a process has ended, and its memory with it.
var ErrEnded = errors.New("the process has ended")

// Puller reads the pages of frozen processes that a target asks for. It is for one
// goroutine.
type Puller struct {
	tasks  map[stream.VPID]Task
	lazy   map[stream.VPID][]addrRange
	reader reader
	out    *stream.Batch
	data   []byte
	lost   []bool
}

// NewPuller returns a Puller of the lazy regions of the processes.
func NewPuller(tasks []Task, regions map[stream.VPID][]image.Region) *Puller {
	p := newPuller()
	p.tasks, p.lazy = map[stream.VPID]Task{}, map[stream.VPID][]addrRange{}
	for _, t := range tasks {
		p.tasks[t.VPID] = t
	}
	for vpid, list := range regions {
		p.lazy[vpid] = lazyOnly(list)
	}
	return p
}

func newPuller() *Puller {
	return &Puller{out: stream.NewBatch(), data: make([]byte, stream.MaxRunPages*stream.PageSize), lost: make([]bool, stream.MaxRunPages)}
}

// Clone returns a Puller of the same processes for another goroutine.
func (p *Puller) Clone() *Puller {
	c := newPuller()
	c.tasks, c.lazy = p.tasks, p.lazy
	return c
}

// lazyOnly returns where the lazy regions lie, which come sorted.
func lazyOnly(regions []image.Region) (out []addrRange) {
	for _, r := range regions {
		if n := len(out); r.Lazy && n > 0 && out[n-1].end == r.Addr {
			out[n-1].end = r.End()
		} else if r.Lazy {
			out = append(out, addrRange{r.Addr, r.End()})
		}
	}
	return out
}

// Check refuses what no target can lack (ErrNotLazy), and more than MaxRunPages.
func (p *Puller) Check(at stream.Place, pages int64) error {
	if pages > 0 && pages <= stream.MaxRunPages {
		list := p.lazy[at.VPID]
		i := sort.Search(len(list), func(i int) bool { return list[i].end > at.Addr })
		if i < len(list) && at.Addr >= list[i].start && uint64(pages) <= (list[i].end-at.Addr)/stream.PageSize {
			return nil
		}
	}
	return fmt.Errorf("%d pages at %#x of process %d: %w", pages, at.Addr, at.VPID, ErrNotLazy)
}

// Read returns a batch with the pages, valid until the next call. A page that cannot be
// read is a [*ReadError].
func (p *Puller) Read(at stream.Place, pages int64) ([]byte, error) {
	if err := p.Check(at, pages); err != nil {
		return nil, err
	}
	task, ok := p.tasks[at.VPID]
	if !ok {
		return nil, &ReadError{VPID: at.VPID, Addr: at.Addr, Err: ErrEnded}
	}
	if err := p.reader.read(task, []pageRange{{at.Addr, int(pages)}}, p.data, p.lost[:pages]); err != nil {
		if errors.Is(err, unix.ESRCH) {
			err = errors.Join(ErrEnded, err)
		}
		return nil, &ReadError{VPID: at.VPID, PID: task.PID, Addr: at.Addr, Err: err}
	}
	p.out.Reset()
	for i := range uint64(pages) {
		page := p.data[i*stream.PageSize:][:stream.PageSize]
		if addr := at.Addr + i*stream.PageSize; isZero(page) {
			p.out.Zero(at.VPID, addr)
		} else {
			p.out.Page(at.VPID, addr, page)
		}
	}
	return p.out.Bytes(), nil
}

// Close frees what reading took.
func (p *Puller) Close() error { return p.reader.close() }
