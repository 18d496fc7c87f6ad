package demo

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestALineIsReadAsItWasWritten(t *testing.T) {
	l := Line{Count: 7, Pid: 1, Host: "counter", Clock: 12345678901, Wall: time.Unix(0, 1772366400123456789), Checked: 112 << 20}
	got, err := parseLine(l.String())
	if err != nil || got.String() != l.String() || !got.Wall.Equal(l.Wall) {
		t.Errorf("got %+v, error %v", got, err)
	}
}

func TestADamagedLineIsNotRead(t *testing.T) {
	whole := Line{Count: 7, Pid: 1, Host: "counter", Clock: 1, Wall: time.Unix(1, 0), Checked: 1}.String()
	for _, s := range []string{"", "\n", whole[1:], whole[:len(whole)-1], whole + "x", " " + whole, strings.Replace(whole, "7", "07", 1), strings.Repeat("\x00", len(whole))} {
		if l, err := parseLine(s); err == nil {
			t.Errorf("%q is read as %+v", s, l)
		}
	}
}

func TestMemoryChangeIsFoundWithinOneRound(t *testing.T) {
	const size = 1 << 20
	for _, at := range []int{0, 4095, 4096, size/2 + 1, size - 1} {
		m, err := newMemory(size)
		if err != nil {
			t.Fatal(err)
		}
		for n := range int64(3) {
			if _, err := m.step(n); err != nil {
				t.Fatal(err)
			}
		}
		m.bytes[at] ^= 1
		var found error
		for n := int64(3); n < 3+stripes && found == nil; n++ {
			_, found = m.step(n)
		}
		if found == nil {
			t.Errorf("the change of byte %d is not found", at)
		}
	}
}

// A page that is one round old is as wrong as one that is damaged.
func TestMemoryPageOfTheRoundBeforeIsFound(t *testing.T) {
	m, err := newMemory(1 << 20)
	if err != nil {
		t.Fatal(err)
	}
	old := bytes.Clone(m.bytes[:4096])
	if _, err := m.step(stripes); err != nil {
		t.Fatal(err)
	}
	copy(m.bytes, old)
	if _, err := m.step(2 * stripes); err == nil {
		t.Error("the page of an earlier tick passes for the current one")
	}
}

func TestMemoryIsComparedWhollyInOneRound(t *testing.T) {
	const size = 3 << 20
	m, err := newMemory(size)
	if err != nil {
		t.Fatal(err)
	}
	var sum int64
	for n := range int64(stripes) {
		got, err := m.step(n)
		if err != nil {
			t.Fatal(err)
		}
		sum += got
	}
	if sum != size {
		t.Errorf("%d of %d bytes are compared", sum, size)
	}
}

// endsAfter fails the write after the n-th.
type endsAfter struct {
	w io.Writer
	n int
}

var errEnd = errors.New("enough")

func (e *endsAfter) Write(p []byte) (int, error) {
	if e.n--; e.n < 0 {
		return 0, errEnd
	}
	return e.w.Write(p)
}

func TestTheJobCountsFromOneWithoutAGap(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		out := newOutput()
		if err := Job(&endsAfter{out, 20}, 1<<20); !errors.Is(err, errEnd) {
			t.Fatal(err)
		}
		lines, raw, _, err := out.now()
		if err != nil || len(lines) != 20 {
			t.Fatalf("%d lines, error %v", len(lines), err)
		}
		e := Evidence{Lines: lines, Live: raw, File: raw, Memory: 1 << 20}
		for _, c := range []Check{e.counter(), e.clock(), e.memory(), e.output()} {
			if !c.OK {
				t.Errorf("%+v", c)
			}
		}
	})
}

func TestOutputIsReadInWhateverPiecesItComes(t *testing.T) {
	all := text(witnessed().Lines)
	for _, size := range []int{1, 7, 100, len(all)} {
		o := newOutput()
		for rest := all; len(rest) > 0; {
			n := min(size, len(rest))
			if _, err := o.Write(rest[:n]); err != nil {
				t.Fatal(err)
			}
			rest = rest[n:]
		}
		lines, raw, _, _ := o.now()
		if len(lines) != 36 || !bytes.Equal(raw, all) {
			t.Errorf("in pieces of %d: %d lines, %d of %d bytes", size, len(lines), len(raw), len(all))
		}
	}
}

func TestOutputThatIsNotTheJobsIsRefused(t *testing.T) {
	if _, err := newOutput().Write([]byte("panic: oh\n")); err == nil {
		t.Error("taken for a line")
	}
	if _, err := newOutput().Write(make([]byte, maxOutput+1)); err == nil {
		t.Error("there is no bound")
	}
}

func TestWaitingForLinesEndsWithTheFollower(t *testing.T) {
	o := newOutput()
	gone := errors.New("the job is gone")
	go o.fail(gone)
	if _, err := o.await(t.Context(), func(l []Line) bool { return len(l) > 0 }); !errors.Is(err, gone) {
		t.Errorf("got %v", err)
	}
}
