package shim

import (
	"errors"
	"log/slog"
	"time"

	"github.com/migrate-hpc/migrate/job"
	"github.com/migrate-hpc/migrate/logkey"
)

// Pauses between two tries to write down how the job ended.
const (
	minRecordPause = 100 * time.Millisecond
	maxRecordPause = 5 * time.Second
)

// recorder writes down how the job ended.
type recorder struct {
	store *job.Store
	job   job.ID
	log   *slog.Logger
}

// record writes down how the job ended, durably, before the status tells it. It retries until the
// disk accepts it. No other place has the exit. While the job's move is not finished, the exit is
// also the only proof that the job has run here. A job that was removed needs no record.
// notYet hears of an exit that the disk did not accept at once.
func (r *recorder) record(exit job.Exit, notYet func(job.Exit)) {
	for pause := minRecordPause; ; pause = min(2*pause, maxRecordPause) {
		err := r.write(exit)
		if err == nil || errors.Is(err, job.ErrNotFound) {
			return
		}
		if pause == minRecordPause {
			r.log.Error("the job's end could not be written down yet", logkey.Err, err)
			notYet(exit)
		}
		time.Sleep(pause)
	}
}

func (r *recorder) write(exit job.Exit) error {
	_, err := r.store.Update(r.job, func(rec *job.Record) error {
		mine := exit
		mine.CPU += rec.CPUBefore
		rec.Exit = &mine
		if n := len(rec.Placements); n > 0 {
			rec.Placements[n-1].To = exit.At
		}
		return nil
	})
	return err
}
