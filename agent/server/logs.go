package server

import (
	"cmp"
	"context"
	"errors"
	"io"
	"net/http"
	"os"
	"strconv"
	"time"

	"github.com/migrate-hpc/migrate/agent/api"
	"github.com/migrate-hpc/migrate/agent/caller"
	"github.com/migrate-hpc/migrate/agent/httpjson"
	"github.com/migrate-hpc/migrate/agent/node"
	"github.com/migrate-hpc/migrate/checkpoint"
	"github.com/migrate-hpc/migrate/job"
)

// followStep is how often a followed file is read.
const followStep = 50 * time.Millisecond

func (s *jobServer) handleLogs(w http.ResponseWriter, r *http.Request, _ caller.Caller, rec job.Record) error {
	q := r.URL.Query()
	stream := q.Get("stream")
	if stream != "stdout" && stream != "stderr" {
		return &api.Error{Code: api.CodeUsage, Message: "a job's output is stdout or stderr"}
	}
	offset, err := strconv.ParseInt(cmp.Or(q.Get("offset"), "0"), 10, 64)
	if err != nil || offset < 0 {
		return &api.Error{Code: api.CodeUsage, Message: "the offset must be a number of bytes"}
	}
	if own := map[string]string{"stdout": rec.Spec.Stdout, "stderr": rec.Spec.Stderr}[stream]; own != "" && q.Get("follow") != "true" {
		return &api.Error{Code: api.CodeFailed, Message: "the job's " + stream + " goes to " + own, Hint: "read that file: `tail " + own + "`"}
	}
	f, _, err := checkpoint.OpenOutput(s.IODir(rec.ID), stream)
	if errors.Is(err, os.ErrNotExist) {
		f, err = os.Open(os.DevNull)
	}
	if err != nil {
		return err
	}
	defer f.Close()
	w.Header().Set("Content-Type", "application/octet-stream")
	w.WriteHeader(http.StatusOK)
	out := httpjson.Flushed(w)
	return s.copyLog(r.Context(), out, f, offset, q.Get("follow") == "true", rec.ID)
}

// copyLog copies the file from offset on, and with follow what is appended, until the job is no
// longer here. It reads the state before the last copy, so that no output before the end is
// missed.
func (s *jobServer) copyLog(ctx context.Context, w io.Writer, f *os.File, offset int64, follow bool, id job.ID) error {
	if _, err := f.Seek(offset, io.SeekStart); err != nil {
		return err
	}
	for {
		over := !follow || s.over(ctx, id)
		n, err := io.Copy(w, f)
		if err != nil || over || ctx.Err() != nil {
			return nil // the reader has left, or has all
		}
		if n > 0 {
			continue
		}
		select {
		case <-ctx.Done():
		case <-time.After(followStep):
		}
	}
}

// over tells whether the job has ended here or left. A job that is frozen for a move is not over.
func (s *jobServer) over(ctx context.Context, id job.ID) bool {
	rec, err := s.Jobs.Get(id)
	if err != nil || !rec.Here() {
		return true
	}
	_, err = s.ShimOf(id).Status(ctx)
	return node.NoTasksLeft(rec, err)
}
