package progress

import (
	"io"
	"sync"

	"github.com/migrate-hpc/migrate/agent/api"
	"github.com/migrate-hpc/migrate/exactjson"
)

// listener is the command that reads the events of its move, checkpoint or restore. A stopped or
// slow one holds up nothing: events wait here, and optional ones are left out meanwhile. So at most
// as many wait as a move has phases and rounds, and one more.
type listener struct {
	more chan struct{} // holds a token when the queue has events
	done chan struct{} // closed when the last event is written, or the reader has left

	mu    sync.Mutex
	queue []api.Event
	ended bool // the last event was queued
}

func newListener(out io.Writer) *listener {
	l := &listener{more: make(chan struct{}, 1), done: make(chan struct{})}
	go l.write(out)
	return l
}

func (l *listener) write(out io.Writer) {
	defer close(l.done)
	enc := exactjson.NewEncoder(out)
	for range l.more {
		queue, over := l.drain()
		for _, e := range queue {
			if enc.Encode(e) != nil {
				return // the reader has left
			}
		}
		if over {
			return
		}
	}
}

func (l *listener) drain() (queue []api.Event, over bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	queue, l.queue = l.queue, nil
	return queue, l.ended
}

// send says something that must be heard, mention what may be left out.
func (l *listener) send(e api.Event)         { l.enqueue(e, true) }
func (l *listener) sendOptional(e api.Event) { l.enqueue(e, false) }

func (l *listener) enqueue(e api.Event, must bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	select {
	case <-l.done:
		return
	default:
	}
	if l.ended || !must && len(l.queue) > 0 {
		return
	}
	l.queue = append(l.queue, e)
	l.notify()
}

func (l *listener) notify() {
	select {
	case l.more <- struct{}{}:
	default:
	}
}

// end queues the last event and waits until it is written, or the reader has left.
func (l *listener) end(e api.Event) {
	l.mu.Lock()
	l.queue, l.ended = append(l.queue, e), true
	l.notify()
	l.mu.Unlock()
	<-l.done
}
