package progress

import (
	"encoding/json"
	"io"
	"sync"

	"github.com/migrate-hpc/migrate/agent/api"
)

// listener is the command that is told how its move, checkpoint or restore gets on.
// One that is stopped or slow holds up nothing: what it has not read waits here, and
// what only says how things stand is left out meanwhile. So as many events wait as a
// move has phases and rounds, and one more.
type listener struct {
	more chan struct{} // holds a token when there is something to say
	done chan struct{} // closed when the last word is said, or nobody listens any more

	mu    sync.Mutex
	queue []api.Event
	ended bool // the last word is in the queue, or was
}

func newListener(out io.Writer) *listener {
	l := &listener{more: make(chan struct{}, 1), done: make(chan struct{})}
	go l.write(out)
	return l
}

func (l *listener) write(out io.Writer) {
	defer close(l.done)
	enc := json.NewEncoder(out)
	for range l.more {
		queue, over := l.drain()
		for _, e := range queue {
			if enc.Encode(e) != nil {
				return // it has left
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

// end says the last word and waits until it is heard, or nobody is there to hear it.
func (l *listener) end(e api.Event) {
	l.mu.Lock()
	l.queue, l.ended = append(l.queue, e), true
	l.notify()
	l.mu.Unlock()
	<-l.done
}
