package handoff

import (
	"bytes"
	"testing"

	"github.com/migrate-hpc/migrate/testenv"
)

func FuzzDecodeFile(f *testing.F) {
	for _, name := range []string{"journal-1", "without-kind/move-target", "without-kind/checkpoint"} {
		data := testenv.ReadGolden(f, name)
		f.Add(data)
		f.Add(data[:len(data)-1])
		f.Add(data[:len(data)/2])
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		records, lines, torn, err := decodeFile(goldenMove, data)
		if len(records) != len(lines) {
			t.Fatalf("%d records of %d lines", len(records), len(lines))
		}
		if err != nil || torn {
			return
		}
		if !bytes.Equal(content(lines), data) {
			t.Error("the lines are not the file")
		}
	})
}

func FuzzDecodeFence(f *testing.F) {
	f.Add([]byte(`{"format":1,"epochs":{"a":3}}`))
	f.Add([]byte(`{"format":1,"epochs":{"a":3},"grants":{"a":{"epoch":3,"node":"b"}},"debts":{"a":[{"epoch":3,"nodes":{"c":"c:1"}}]}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		if content, err := decodeFence(data); err == nil && content.Epochs == nil {
			t.Error("neither epochs nor an error")
		}
	})
}
