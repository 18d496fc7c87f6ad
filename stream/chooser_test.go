package stream

import (
	"io"
	"testing"
	"testing/synctest"
	"time"
)

// after lets a chooser see a link and cores of the given speeds, in nanoseconds per byte.
func after(wire, s2, zstd time.Duration) chooser {
	c := newChooser()
	for range 64 {
		c.sent(MaxFrame, wire*MaxFrame)
		c.packed(S2, 0.5, MaxFrame, MaxFrame/2, s2*MaxFrame)
		c.packed(Zstd, 0.5, MaxFrame, MaxFrame*35/100, zstd*MaxFrame)
	}
	return c
}

func TestChooserPicksTheCheapestWayAcross(t *testing.T) {
	for name, c := range map[string]struct {
		chooser chooser
		sample  float64
		want    Codec
	}{
		"nothing known, shrinks":           {newChooser(), 0.5, S2},
		"nothing known, does not shrink":   {newChooser(), 1, None},
		"fast link":                        {after(1, 2, 6), 0.5, None},
		"fast link, zeros":                 {after(3, 1, 6), 0.01, S2},
		"1 Gbit/s":                         {after(8, 2, 6), 0.5, S2},
		"100 Mbit/s":                       {after(80, 2, 6), 0.5, Zstd},
		"100 Mbit/s, s2 finds nothing":     {after(80, 2, 6), 1, Zstd},
		"1 Gbit/s, busy cores":             {after(8, 9, 30), 0.5, None},
		"100 Mbit/s, cores of no use":      {after(80, 90, 300), 0.5, None},
		"100 Mbit/s, zstd slow, s2 is not": {after(80, 5, 60), 0.5, S2},
	} {
		if got := c.chooser.choose(c.sample); got != c.want {
			t.Errorf("%s: %s, want %s", name, got, c.want)
		}
	}
}

func TestAFrugalStreamPacksWhateverShrinks(t *testing.T) {
	fast := after(1, 2, 6)
	fast.frugal = true
	if got := fast.choose(0.5); got != S2 || !fast.worthSampling() {
		t.Errorf("half as large: %s", got)
	}
	if got := fast.choose(0.95); got != None {
		t.Errorf("as good as noise: %s", got)
	}
	slow := after(80, 2, 6)
	slow.frugal = true
	if got := slow.choose(0.5); got != Zstd {
		t.Errorf("on a slow link: %s", got)
	}
}

func TestChooserLearnsThatNothingShrinks(t *testing.T) {
	c := after(80, 2, 6)
	for range 16 {
		if c.choose(1) == None {
			return
		}
		c.packed(Zstd, 1, MaxFrame, MaxFrame, 2*MaxFrame)
	}
	t.Error("still packs what has not shrunk 16 times")
}

func TestChooserSeesThroughASocketBuffer(t *testing.T) {
	c := newChooser()
	for range 8 {
		for range 3 {
			c.sent(MaxFrame, time.Millisecond/10)
		}
		c.sent(MaxFrame, 300*time.Millisecond)
	}
	if got := c.choose(0.5); got != Zstd {
		t.Errorf("%s on a link of 100 Mbit/s behind a buffer, want zstd", got)
	}
}

func TestTheSampleTellsTextFromNoise(t *testing.T) {
	frames := mixed(2)
	buf := make([]byte, 32<<10)
	if r, _ := sampleRatio(buf, frames[0]); r < worthwhile {
		t.Errorf("noise: %.2f", r)
	}
	if r, _ := sampleRatio(buf, frames[1]); r > 0.7 {
		t.Errorf("text: %.2f", r)
	}
	if r, _ := sampleRatio(buf, []byte{1}); r < 1 {
		t.Errorf("one byte: %.2f", r)
	}
}

// slowLink takes its time for every byte.
type slowLink struct {
	io.Writer
	perByte time.Duration
}

func (l slowLink) Write(p []byte) (int, error) {
	//house:allow time.Sleep: the pace of the link
	time.Sleep(time.Duration(len(p)) * l.perByte)
	return l.Writer.Write(p)
}

// framesOver counts how the frames of a text are packed on their way over w.
func framesOver(t *testing.T, w io.Writer) [Zstd + 1]int64 {
	t.Helper()
	text := mixed(2)[1]
	s := NewWriter(w, 1)
	for range 24 {
		if err := s.WriteFrame(text); err != nil {
			t.Fatal(err)
		}
	}
	return s.Stats().Frames
}

func TestAStreamPacksForASlowLink(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		if got := framesOver(t, slowLink{io.Discard, 80}); got[Zstd] < 16 {
			t.Errorf("%v frames (none, s2, zstd), want most with zstd", got)
		}
	})
}

func TestAStreamDoesNotPackForAnInstantLink(t *testing.T) {
	if got := framesOver(t, io.Discard); got[None] < 12 {
		t.Errorf("%v frames (none, s2, zstd), want most with none", got)
	}
}

func TestChooserForgivesABadMoment(t *testing.T) {
	c := after(80, 2, 6)
	c.packed(Zstd, 0.5, MaxFrame, MaxFrame, 5*time.Second)
	for range 100 {
		c.sampled(64<<10, 2*64<<10)
		if c.choose(0.5) == Zstd {
			return
		}
	}
	t.Error("zstd is not tried again after 100 frames")
}
