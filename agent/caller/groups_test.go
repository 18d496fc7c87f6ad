package caller

import (
	"slices"
	"testing"

	"github.com/migrate-hpc/migrate/agent/api"
	"github.com/migrate-hpc/migrate/agent/httpjson"
	"github.com/migrate-hpc/migrate/job"
)

func TestCallerHasTheGroupsOfAJobThatItIsStillIn(t *testing.T) {
	rec := job.Record{Spec: job.Spec{UID: 1000, GID: 100, Groups: []uint32{7, 8, 9}}}
	roots := job.Record{Spec: job.Spec{Groups: []uint32{0, 6}, UserNS: true}}
	for _, c := range []struct {
		who  Caller
		rec  job.Record
		want []uint32
		code api.Code
	}{
		{Caller{UID: 1000, GID: 100, Groups: []uint32{9, 8, 7}}, rec, []uint32{7, 8, 9}, ""},
		{Caller{UID: 1000, GID: 100, Groups: []uint32{9, 10}}, rec, []uint32{9}, ""},
		{Caller{UID: 1000, GID: 100}, rec, nil, ""},
		{Caller{UID: 1000, GID: 8, Groups: []uint32{100}}, rec, []uint32{8}, ""}, // after newgrp
		{Caller{UID: 1000, GID: 8, Groups: []uint32{7, 8, 9}}, rec, nil, api.CodeForbidden},
		{Caller{}, rec, []uint32{7, 8, 9}, ""},
		{Caller{}, roots, nil, ""}, // which its user namespace does not map
	} {
		got, err := c.who.JobGroups(c.rec)
		if !slices.Equal(got, c.want) || (err == nil) != (c.code == "") || err != nil && httpjson.ErrorOf(err).Code != c.code {
			t.Errorf("%+v: got %v %v, want %v %s", c.who, got, err, c.want, c.code)
		}
	}
}
