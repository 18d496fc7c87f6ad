package api

import (
	"cmp"
	"encoding/json"
	"errors"
	"time"
)

// older is what agents of the first versions said, and wrote, in place of a downtime.
type older struct {
	Downtime time.Duration `json:"stood_still"`
}

// UnmarshalJSON reads the results of older agents, too.
func (r *Result) UnmarshalJSON(data []byte) error {
	type plain Result
	var before older
	err := errors.Join(json.Unmarshal(data, (*plain)(r)), json.Unmarshal(data, &before))
	r.Downtime = cmp.Or(r.Downtime, before.Downtime)
	return err
}

// UnmarshalJSON reads the records of older agents, too.
func (r *MoveRecord) UnmarshalJSON(data []byte) error {
	type plain MoveRecord
	var before older
	err := errors.Join(json.Unmarshal(data, (*plain)(r)), json.Unmarshal(data, &before))
	r.Downtime = cmp.Or(r.Downtime, before.Downtime)
	return err
}
