package exactjson

import (
	"bytes"
	"encoding/json"
	"io"
	"reflect"
)

// Marshal is json.Marshal.
func Marshal(v any) ([]byte, error) { return json.Marshal(escaped(v)) }

// MarshalIndent is json.MarshalIndent.
func MarshalIndent(v any, prefix, indent string) ([]byte, error) {
	return json.MarshalIndent(escaped(v), prefix, indent)
}

// Unmarshal is json.Unmarshal.
func Unmarshal(data []byte, v any) error {
	err := json.Unmarshal(data, v)
	if err == nil && (bytes.Contains(data, []byte("\xf4\x8f")) || bytes.Contains(data, []byte(`\u`))) {
		restoreIn(v)
	}
	return err
}

// Encoder is a json.Encoder.
type Encoder struct{ *json.Encoder }

// NewEncoder is json.NewEncoder.
func NewEncoder(w io.Writer) Encoder { return Encoder{json.NewEncoder(w)} }

// Encode is that of json.Encoder.
func (e Encoder) Encode(v any) error { return e.Encoder.Encode(escaped(v)) }

// Decoder is a json.Decoder.
type Decoder struct{ *json.Decoder }

// NewDecoder is json.NewDecoder.
func NewDecoder(r io.Reader) Decoder { return Decoder{json.NewDecoder(r)} }

// Decode is that of json.Decoder.
func (d Decoder) Decode(v any) error {
	err := d.Decoder.Decode(v)
	if err == nil {
		restoreIn(v)
	}
	return err
}

// escaped is v, or a copy of it if JSON would not keep it as it is.
func escaped(v any) any {
	value := reflect.ValueOf(v)
	if exact(value) {
		return v
	}
	return mapped(value, escape).Interface()
}

// restoreIn restores what v points to.
func restoreIn(v any) {
	to := reflect.ValueOf(v).Elem()
	if !exact(to) {
		to.Set(mapped(to, restore))
	}
}
