package pages

import (
	"errors"

	"github.com/migrate-hpc/migrate/checkpoint/image"
	"github.com/migrate-hpc/migrate/checkpoint/watch"
)

// worthWatching is the memory from which on a process is watched, in bytes. It stops for
// a moment when that begins, and little memory is read as fast.
const worthWatching = 16 << 20

// watching has the kernel protect pages and note the first write (package watch).
type watching struct {
	followed map[Task]*watched
}

type watched struct {
	id    string
	watch *watch.Watch
	// final is what had changed, by mapping, when the process stood still.
	final map[addrRange][]addrRange
}

func (w *watching) name() string { return "write-protect" }

func (w *watching) begin(tasks []Task) (news []image.VPID) {
	before := w.followed
	w.followed = map[Task]*watched{}
	for _, t := range tasks {
		id, err := identity(t.PID)
		if err != nil {
			continue
		}
		if f := before[t]; f != nil && f.id == id && f.watch != nil && !directIO(t.PID) {
			w.followed[t] = f
			delete(before, t)
			continue
		}
		if resident(t.PID) < worthWatching || directIO(t.PID) {
			continue
		}
		if followed, err := watch.Attach(t.PID); err == nil { // otherwise it is looked at
			w.followed[t] = &watched{id: id, watch: followed}
			news = append(news, t.VPID)
		}
	}
	for _, f := range before {
		_ = f.close() // of one that is gone
	}
	return news
}

func (w *watching) changed(t Task, m addrRange) ([]addrRange, bool) {
	f := w.followed[t]
	if f == nil {
		return nil, false
	}
	if f.watch == nil {
		where, ok := f.final[m]
		return where, ok
	}
	return f.written(m)
}

// written asks the kernel, which forgets it by that.
func (f *watched) written(m addrRange) ([]addrRange, bool) {
	ranges, err := f.watch.Written(nil, m.start, m.end)
	if err != nil {
		return nil, false
	}
	where := make([]addrRange, len(ranges))
	for i, r := range ranges {
		where[i] = addrRange{r.Start, r.End}
	}
	return where, true
}

func (w *watching) stays(Task, addrRange, uint64) func() bool { return nil }

func (w *watching) missed(t Task) {
	if f := w.followed[t]; f != nil {
		_ = f.close() // it is watched anew, or gone
		delete(w.followed, t)
	}
}

// settle asks for the last time and ends the watches: CRIU would stumble over them.
func (w *watching) settle(tasks []Task) error {
	var errs []error
	for t, f := range w.followed {
		if id, err := identity(t.PID); err != nil || id != f.id {
			w.missed(t) // another program runs there
			continue
		}
		f.final = map[addrRange][]addrRange{}
		maps, err := lazyMappings(t.PID)
		if err != nil {
			maps = nil // all of it is looked at
		}
		for _, m := range maps {
			if where, ok := f.written(m); ok {
				f.final[m] = where
			}
		}
		errs = append(errs, f.close())
	}
	return errors.Join(errs...)
}

func (f *watched) close() error {
	if f.watch == nil {
		return nil
	}
	err := f.watch.Close()
	f.watch = nil
	return err
}

func (w *watching) close() error {
	var errs []error
	for _, f := range w.followed {
		errs = append(errs, f.close())
	}
	w.followed = nil
	return errors.Join(errs...)
}
