package transport

import (
	"bytes"
	"encoding/binary"
	"errors"
	"reflect"
	"strings"
	"testing"

	"github.com/migrate-hpc/migrate/testenv"
)

func someHello() Hello {
	return Hello{VersionMin: 1, VersionMax: 1, Features: []string{"s2", "zstd"}, Node: "node-1",
		Session: "000102030405060708090a0b0c0d0e0f", Role: Data, Index: 2, Data: 4, Time: 1_700_000_000_123_456_789}
}

func TestHelloKeepsItsFormat(t *testing.T) {
	var b bytes.Buffer
	if err := WriteHello(&b, someHello()); err != nil {
		t.Fatal(err)
	}
	testenv.Golden(t, "hello-v1.bin", b.Bytes())
	got, err := ReadHello(bytes.NewReader(testenv.ReadGolden(t, "hello-v1.bin")))
	if err != nil || !reflect.DeepEqual(got, someHello()) {
		t.Errorf("read %+v, %v", got, err)
	}
}

func TestHelloLeavesWhatFollowsIt(t *testing.T) {
	b := bytes.NewBuffer(testenv.ReadGolden(t, "hello-v1.bin"))
	b.WriteString("next")
	if _, err := ReadHello(b); err != nil || b.String() != "next" {
		t.Errorf("left %q, %v", b, err)
	}
}

func TestHelloOfALaterVersionIsRead(t *testing.T) {
	body := `{"version_min":1,"version_max":9,"features":null,"node":"a","session":"000102030405060708090a0b0c0d0e0f","role":"control","colour":"blue"}`
	h, err := ReadHello(bytes.NewReader(helloFrame(body)))
	if err != nil || h.VersionMax != 9 {
		t.Errorf("read %+v, %v", h, err)
	}
}

func helloFrame(body string) []byte {
	return append(binary.LittleEndian.AppendUint32([]byte(helloMagic), uint32(len(body))), body...)
}

func TestHelloOutOfRangeIsRefused(t *testing.T) {
	for name, change := range map[string]func(*Hello){
		"version 0":         func(h *Hello) { h.VersionMin = 0 },
		"empty range":       func(h *Hello) { h.VersionMin = 2 },
		"no node":           func(h *Hello) { h.Node = "" },
		"odd node":          func(h *Hello) { h.Node = "../a" },
		"short session":     func(h *Hello) { h.Session = "00" },
		"upper-case hex":    func(h *Hello) { h.Session = strings.ToUpper(h.Session) },
		"unknown role":      func(h *Hello) { h.Role = "other" },
		"index beyond data": func(h *Hello) { h.Index = 4 },
		"negative index":    func(h *Hello) { h.Index = -1 },
		"indexed control":   func(h *Hello) { h.Role = Control },
		"too much data":     func(h *Hello) { h.Data = MaxData + 1 },
		"empty feature":     func(h *Hello) { h.Features = []string{""} },
		"many features":     func(h *Hello) { h.Features = make([]string, maxFeatures+1) },
	} {
		h := someHello()
		change(&h)
		if err := WriteHello(new(bytes.Buffer), h); !errors.Is(err, ErrHello) {
			t.Errorf("%s: %v, want ErrHello", name, err)
		}
	}
}

func TestHelloIsBoundedBeforeItIsRead(t *testing.T) {
	huge := binary.LittleEndian.AppendUint32([]byte(helloMagic), 1<<31)
	if _, err := ReadHello(bytes.NewReader(huge)); !errors.Is(err, ErrHello) {
		t.Errorf("2 GiB announced: %v, want ErrHello", err)
	}
	if _, err := ReadHello(strings.NewReader("GET / HTTP/1.1\r\n\r\n")); !errors.Is(err, ErrHello) {
		t.Errorf("HTTP: %v, want ErrHello", err)
	}
}

func TestAgreementIsTheHighestVersionAndTheCommonFeatures(t *testing.T) {
	ours, theirs := someHello(), someHello()
	ours.VersionMax, theirs.VersionMax = 3, 5
	ours.Features, theirs.Features = []string{"z", "b", "a", "b"}, []string{"b", "z", "c"}
	version, features, err := agree(ours, theirs)
	if err != nil || version != 3 || !reflect.DeepEqual(features, []string{"b", "z"}) {
		t.Errorf("agreed on %d %v, %v", version, features, err)
	}
	theirs.VersionMin = 4
	var refused *Error
	if _, _, err := agree(ours, theirs); !errors.As(err, &refused) || refused.Code != CodeVersion || refused.Hint == "" {
		t.Errorf("no common version: %v", err)
	}
}

// FuzzHello holds that whatever is accepted can be said again and means the same.
func FuzzHello(f *testing.F) {
	f.Add(testenv.ReadGolden(f, "hello-v1.bin"))
	f.Add(helloFrame(`{}`))
	f.Add(helloFrame(`null null`))
	f.Add([]byte("MGRH\xff\xff\xff\xff"))
	f.Fuzz(func(t *testing.T, data []byte) {
		h, err := ReadHello(bytes.NewReader(data))
		if err != nil {
			return
		}
		var b bytes.Buffer
		if err := WriteHello(&b, h); err != nil {
			t.Skip("larger than a hello once it is escaped")
		}
		again, err := ReadHello(&b)
		if err != nil || !reflect.DeepEqual(again, h) {
			t.Errorf("%+v came back as %+v, %v", h, again, err)
		}
	})
}
