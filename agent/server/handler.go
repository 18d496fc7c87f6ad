package server

import (
	"net/http"

	"github.com/migrate-hpc/migrate/agent/caller"
	"github.com/migrate-hpc/migrate/job"
)

// handler answers a request whose caller is known.
type handler func(w http.ResponseWriter, r *http.Request, c caller.Caller) error

// jobHandler answers a request about a job that the caller may change.
type jobHandler func(w http.ResponseWriter, r *http.Request, c caller.Caller, rec job.Record) error

// damagedHandler answers a request about a job whose record cannot be read.
type damagedHandler func(w http.ResponseWriter, r *http.Request, c caller.Caller, e *job.RecordError) error
