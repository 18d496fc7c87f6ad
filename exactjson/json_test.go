package exactjson

import (
	"bytes"
	"encoding/json"
	"reflect"
	"testing"
	"time"
)

type inner struct {
	Path string `json:"path"`
	own  int
}

type outer struct {
	Args  []string         `json:"args"`
	Keys  map[string]inner `json:"keys"`
	Ptr   *inner           `json:"ptr,omitempty"`
	At    time.Time        `json:"at"`
	Raw   json.RawMessage  `json:"raw,omitempty"`
	Fixed [2]string        `json:"fixed"`
	Any   any              `json:"any"`
	inner
}

var odd = []string{"", "plain", "grüße", "a\xffb", "\x80", "\xf4\x8f\xbf\xbf", "\xf4\x8f\xbe\x80 and \xfe", "\xe2\x82", "\x00\n\"<"}

func TestStringsComeBackAsTheyWere(t *testing.T) {
	for _, s := range odd {
		in := outer{Args: []string{s, "x"}, Keys: map[string]inner{s: {Path: s}}, Ptr: &inner{Path: s}, At: time.Unix(1, 0).UTC(),
			Raw: json.RawMessage(`{"a":1}`), Fixed: [2]string{s}, Any: []any{s}, inner: inner{Path: s, own: 7}}
		data, err := Marshal(in)
		if err != nil {
			t.Fatal(err)
		}
		in.own = 0
		var out, streamed outer
		var line bytes.Buffer
		for _, err := range []error{Unmarshal(data, &out), NewEncoder(&line).Encode(&in), NewDecoder(&line).Decode(&streamed)} {
			if err != nil {
				t.Fatal(err)
			}
		}
		if !reflect.DeepEqual(out, in) || !reflect.DeepEqual(streamed, in) {
			t.Errorf("%q came back as %+v and %+v", s, out, streamed)
		}
	}
}

func TestTextIsTheSameJSONAsEver(t *testing.T) {
	in := outer{Args: []string{"grüße", "<\u2028>", "\U0010fe00"}, Any: map[string]any{"k": nil}}
	ours, err := Marshal(in)
	theirs, err2 := json.Marshal(in)
	if err != nil || err2 != nil || !bytes.Equal(ours, theirs) {
		t.Errorf("%s, not %s: %v, %v", ours, theirs, err, err2)
	}
}

func FuzzStrings(f *testing.F) {
	for _, s := range odd {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		data, err := Marshal([]string{s})
		if err != nil {
			t.Fatal(err)
		}
		var out []string
		if err := Unmarshal(data, &out); err != nil || len(out) != 1 || out[0] != s {
			t.Errorf("%q came back as %q: %v", s, out, err)
		}
	})
}

// circle leads to itself by what JSON does not have.
type circle struct {
	Name   string
	Self   any `json:"-"`
	hidden *circle
}

func TestWhatJSONDoesNotHaveIsNotFollowed(t *testing.T) {
	for _, name := range []string{"text", "no\xfftext"} {
		c := &circle{Name: name}
		c.Self, c.hidden = c, c
		data, err := Marshal(c)
		if err != nil {
			t.Fatal(err)
		}
		var back circle
		if err := Unmarshal(data, &back); err != nil || back.Name != name {
			t.Errorf("%q is %q, %v", name, back.Name, err)
		}
	}
}
