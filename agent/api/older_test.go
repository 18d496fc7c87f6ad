package api

import (
	"encoding/json"
	"testing"
	"time"
)

func TestDowntimeOfAnOlderAgentIsRead(t *testing.T) {
	for text, want := range map[string]time.Duration{`{"stood_still":5}`: 5, `{"downtime":7}`: 7, `{"took":1}`: 0} {
		var result Result
		var record MoveRecord
		for _, v := range []any{&result, &record} {
			if err := json.Unmarshal([]byte(text), v); err != nil {
				t.Fatal(err)
			}
		}
		if result.Downtime != want || record.Downtime != want {
			t.Errorf("%s: %v, %v", text, result.Downtime, record.Downtime)
		}
	}
	var event Event
	if err := json.Unmarshal([]byte(`{"done":{"job":"j","stood_still":5,"rounds":[{"number":1}]}}`), &event); err != nil || event.Done.Downtime != 5 || len(event.Done.Rounds) != 1 {
		t.Errorf("%+v, %v", event.Done, err)
	}
}
