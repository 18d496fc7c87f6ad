package criu

import (
	"context"
	"time"

	"github.com/checkpoint-restore/go-criu/v7/rpc"
)

// Standby is a CRIU that has been started and waits for its one request. Its start,
// 10 to 20 ms with a loader, a wrapper and a mount namespace, is then over when the
// request comes.
type Standby struct{ w *worker }

// Start starts a CRIU. Of run, what is about the process counts: Files,
// SysProcAttr, Wrap, Env, Dir and Before. The caller calls Do or Close.
//
// If the caller dies, so does the CRIU, because its socket closes.
func (c *Client) Start(ctx context.Context, run Run) (*Standby, error) {
	w, err := c.start(ctx, run, c.surround(ctx))
	if err != nil {
		return nil, &Error{Op: "start", Err: err}
	}
	return &Standby{w}, nil
}

// Pid is the process.
func (s *Standby) Pid() int { return s.w.pid }

// Do has it serve the request as Client.Do does. Of run, what is about the request
// counts: Notify, LogFile, Started and Grace.
func (s *Standby) Do(ctx context.Context, req *rpc.CriuReq, run Run) (*rpc.CriuResp, error) {
	w := s.w
	s.w = nil
	return w.serve(ctx, req, run)
}

// Close ends a CRIU that was given no request. After Do it does nothing.
func (s *Standby) Close() {
	if s == nil || s.w == nil {
		return
	}
	_ = s.w.conn.Close() // it ends by itself then
	select {
	case <-s.w.done:
	case <-time.After(defaultGrace):
		_ = s.w.kill() // it may just have ended
		<-s.w.done
	}
	_ = s.w.output.Close()
	s.w = nil
}
