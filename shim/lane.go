package shim

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"

	"github.com/migrate-hpc/migrate/restore/uffd"
)

// Lane sends the frames of one lane to the shim, in order. It is for one goroutine.
type Lane struct {
	body *io.PipeWriter
	head [4]byte
	done chan error // how the shim has answered
}

// Pages opens a lane to the shim, which accepts pages from when it begins to restore. With final
// they are those of the freeze, and the shim has asked for them.
func (c *Client) Pages(ctx context.Context, final bool) *Lane {
	r, w := io.Pipe()
	l := &Lane{body: w, done: make(chan error, 1)}
	path := "/pages"
	if final {
		path += "?final=1"
	}
	go func() {
		_, err := c.send(ctx, "POST", path, r)
		if err == nil {
			err = io.ErrClosedPipe // for a frame that comes behind the end
		}
		r.CloseWithError(err)
		l.done <- err
	}()
	return l
}

// Frame sends a page batch. A nil error does not mean that the shim has it; see Close.
func (l *Lane) Frame(batch []byte) error {
	binary.NativeEndian.PutUint32(l.head[:], uint32(len(batch)))
	if _, err := l.body.Write(l.head[:]); err != nil {
		return err
	}
	_, err := l.body.Write(batch)
	return err
}

// Close returns nil when the shim has everything that was sent.
func (l *Lane) Close() error {
	_ = l.body.Close() // never fails
	if err := <-l.done; !errors.Is(err, io.ErrClosedPipe) {
		return err
	}
	return nil
}

// Abort gives the lane up.
func (l *Lane) Abort() {
	l.body.CloseWithError(errors.New("given up"))
	<-l.done
}

// EndPush says that all pages that were sent are those of the freeze. With pull the others come
// later. Without, the shim must have every page.
func (c *Client) EndPush(ctx context.Context, pull bool) error {
	path := "/settle"
	if pull {
		path += "?pull=1"
	}
	_, err := c.call(ctx, "POST", path, nil)
	return err
}

// MarkLost says that the missing pages of the job will never come. The shim ends the job.
func (c *Client) MarkLost(ctx context.Context, why string) error {
	_, err := c.call(ctx, "POST", "/lose", markLostRequest{why})
	return err
}

// PageRequests calls ask with the pages that the job lacks, now and then with none, until it lacks
// none. It returns nil then, and ErrGone if there is no job.
func (c *Client) PageRequests(ctx context.Context, ask func([]uffd.PageRequest) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	resp, err := c.do(ctx, "GET", "/wanted", http.NoBody)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	for lines := json.NewDecoder(resp.Body); ; {
		var line requestLine
		switch err := lines.Decode(&line); {
		case err != nil:
			return fmt.Errorf("hear from the shim what is missing: %w", errors.Join(context.Cause(ctx), err))
		case line.Error != "":
			return errors.New(line.Error)
		case line.Complete:
			return nil
		}
		if err := ask(line.Requests); err != nil {
			return err
		}
	}
}
