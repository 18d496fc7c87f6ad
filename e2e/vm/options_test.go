package vm

import (
	"bytes"
	"encoding/binary"
	"slices"
	"strings"
	"testing"
)

func TestQEMUCommandLineHasAllOptions(t *testing.T) {
	o := Options{Name: "a", QEMU: "qemu", Kernel: "k", RAMDisk: "r", Disk: "d.img", Dir: "/x", AgentPort: 4711, MAC: "52:54:00:00:00:01", Segment: "/x/port"}
	for name, c := range map[string]struct {
		change func(*Options)
		has    []string
		lacks  []string
	}{
		"emulated": {func(*Options) {}, []string{"-cpu max,cx16=off", "-accel tcg,thread=multi,tb-size=256", "-m 1024", "hostfwd=tcp:127.0.0.1:4711-:1",
			"restrict=on", "logfile=/x/serial.log", "path=/x/console", "unix:/x/qmp,", "addr.path=/x/port", "mac=52:54:00:00:00:01", "file=d.img"}, []string{"kvm", "-incoming"}},
		"with KVM":          {func(o *Options) { o.KVM = true }, []string{"-accel kvm", "-cpu host"}, []string{"tcg", "cx16"}},
		"more memory":       {func(o *Options) { o.MemoryMiB = 512 }, []string{"-m 512"}, []string{"1024"}},
		"on no segment":     {func(o *Options) { o.Segment = "" }, []string{"user,id=way"}, []string{"id=segment", "mac="}},
		"going on as saved": {func(o *Options) { o.Incoming = "/x/state" }, []string{"-incoming exec:cat /x/state"}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			o := o
			c.change(&o)
			line := strings.Join(o.CommandLine(), " ")
			for _, want := range c.has {
				if !strings.Contains(line, want) {
					t.Errorf("%q is not in %s", want, line)
				}
			}
			for _, bad := range c.lacks {
				if strings.Contains(line, bad) {
					t.Errorf("%q is in %s", bad, line)
				}
			}
			if !slices.Equal(o.CommandLine(), o.CommandLine()) {
				t.Error("asked twice, it differs")
			}
		})
	}
}

func TestCpioArchiveIsReadByOthers(t *testing.T) {
	var b bytes.Buffer
	if err := writeRAMDisk(&b, []entry{{"dir", 0o040755, nil}, {"dir/file", 0o100755, []byte("12345")}}); err != nil {
		t.Fatal(err)
	}
	if b.Len()%4 != 0 || !bytes.HasPrefix(b.Bytes(), []byte("070701")) {
		t.Fatalf("%d bytes: %q", b.Len(), b.Bytes())
	}
	at := bytes.Index(b.Bytes(), []byte("dir/file\x00"))
	// Its header begins where the entry before ends, aligned; the data behind the
	// name, too.
	if head := at - 110; head%4 != 0 || string(b.Bytes()[head:head+6]) != "070701" {
		t.Errorf("no header before the name at %d", at)
	}
	data := at + len("dir/file\x00")
	data += (4 - data%4) % 4
	if got := string(b.Bytes()[data : data+5]); got != "12345" {
		t.Errorf("the file holds %q", got)
	}
	if !bytes.Contains(b.Bytes(), []byte("TRAILER!!!\x00")) {
		t.Error("no trailer")
	}
}

func TestSnapshotChangesOnlyTheCounter(t *testing.T) {
	state := slices.Concat([]byte("before"), timerSection, binary.BigEndian.AppendUint64(nil, 1000), []byte("after"))
	for _, c := range []struct {
		name, data string
		want       string
	}{
		{"as QEMU saves it", string(state), string(slices.Concat([]byte("before"), timerSection, binary.BigEndian.AppendUint64(nil, 1234), []byte("after")))},
		{"without clocks", "something else", ""},
		{"with two", string(state) + string(state), ""},
		{"cut short", string(state[:len(state)-10]), ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			data := []byte(c.data)
			err := turnForward(data, 234)
			if (err == nil) != (c.want != "") {
				t.Fatal(err)
			}
			if err == nil && string(data) != c.want {
				t.Errorf("got %q, want %q", data, c.want)
			}
		})
	}
}
