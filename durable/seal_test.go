package durable

import (
	"bytes"
	"encoding/json"
	"testing"
)

func TestAFlippedBitInASealedTextIsNoticedOrOfNoAccount(t *testing.T) {
	type text struct {
		Format int    `json:"format"`
		CRC    string `json:"crc32c,omitempty"`
		Rest   string `json:"rest"`
	}
	data, err := json.MarshalIndent(text{1, Unsealed, `"crc32c": "12345678"`}, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	Seal(data)
	if err := Verify(data); err != nil {
		t.Fatal(err)
	}
	again := bytes.Clone(data)
	Seal(again)
	if !bytes.Equal(again, data) {
		t.Errorf("sealed twice: %s, once: %s", again, data)
	}
	var want text
	if err := json.Unmarshal(data, &want); err != nil || want.CRC == Unsealed {
		t.Fatalf("%+v, %v", want, err)
	}
	for i := range data {
		for bit := range 8 {
			flipped := bytes.Clone(data)
			flipped[i] ^= 1 << bit
			var got text
			if Verify(flipped) != nil || json.Unmarshal(flipped, &got) != nil {
				continue
			}
			if got.CRC = want.CRC; got != want {
				t.Errorf("byte %d, bit %d: read as %+v", i, bit, got)
			}
		}
	}
}

func TestATextWithoutAChecksumIsTakenAsItIs(t *testing.T) {
	for _, data := range []string{"", "{}", `{"format":1}`} {
		text := []byte(data)
		Seal(text)
		if string(text) != data || Verify(text) != nil {
			t.Errorf("%q became %q", data, text)
		}
	}
}
