package stream

import (
	"math"
	"time"

	"github.com/klauspost/compress/s2"
)

// chooser picks the codec that should bring a frame across soonest. A stream packs and
// sends one frame after the other, so a frame costs, per byte of payload,
//
//	none   wire                     wire: time blocked in Write per byte written
//	s2     pack(s2)   + ratio(s2)   × wire
//	zstd   pack(zstd) + ratio(zstd) × wire
//
// The ratio of s2 is that of a sample of the very frame; zstd's is guessed from it.
// Everything else is measured on the frames before. A link at full speed makes wire
// large and so favours packing; busy cores make pack large and favour leaving it. The
// sample's time counts as well, and what was learned of zstd wears off, so that no codec
// is written off for good after a bad moment.
type chooser struct {
	wire cost
	pack [Zstd + 1]cost
	gain float64 // zstd's ratio over that of s2's sample, a moving average
	seen int     // frames

	frugal bool // bytes count, not time: whatever shrinks well is packed
}

// Where a chooser begins, in nanoseconds per byte: a link of 1 Gbit/s, and one core of a
// server of 2020. They make s2 the default for what shrinks.
const (
	firstWire = 8
	firstS2   = 2
	firstZstd = 6
	firstGain = 0.75
)

// zstdOverS2 is about how many times as long zstd takes; true while it is not in use.
const zstdOverS2 = firstZstd / firstS2

// margin is the part of the time without packing that packing must stay below: it
// takes cores from the job and the receiver, and a sample is too short to notice that they are busy.
const margin = 0.8

// shrinks is the ratio below which packing pays where time does not count.
const shrinks = 0.8

// worthwhile is the ratio above which a sample counts as one that does not shrink.
const worthwhile = 0.95

func newChooser() chooser {
	c := chooser{wire: newCost(firstWire), gain: firstGain}
	c.pack[S2], c.pack[Zstd] = newCost(firstS2), newCost(firstZstd)
	return c
}

// worthSampling is false while not even a frame that shrinks to a quarter would be packed;
// every sixteenth is sampled all the same, to notice when that changes.
func (c *chooser) worthSampling() bool {
	c.seen++
	if c.frugal {
		return true
	}
	wire := c.wire.perByte()
	return c.seen%16 == 0 || c.pack[S2].perByte()+wire/4 < wire*margin
}

// sampled reports the time that s2 took for a sample of n bytes.
func (c *chooser) sampled(n int, took time.Duration) {
	c.pack[S2].add(n, took)
	c.pack[Zstd].add(n, zstdOverS2*took)
	c.gain += (firstGain - c.gain) / 64
}

// choose takes the ratio (packed over raw) that s2 reached on a sample of the frame.
func (c *chooser) choose(sample float64) Codec {
	wire := c.wire.perByte()
	best, least := None, wire*margin
	if c.frugal && sample < shrinks {
		least = math.Inf(1)
	}
	if t := c.pack[S2].perByte() + sample*wire; sample < worthwhile && t < least {
		best, least = S2, t
	}
	if ratio := min(sample*c.gain, 1); ratio < worthwhile && c.pack[Zstd].perByte()+ratio*wire < least {
		best = Zstd
	}
	return best
}

// packed reports that packing raw bytes with codec took that long and came to packed bytes.
func (c *chooser) packed(codec Codec, sample float64, raw, packed int, took time.Duration) {
	c.pack[codec].add(raw, took)
	if codec == Zstd && sample > 0 {
		c.gain += (float64(packed)/float64(raw)/sample - c.gain) / 4
	}
}

// sent reports that writing n bytes blocked for that long.
func (c *chooser) sent(n int, took time.Duration) { c.wire.add(n, took) }

// cost is a time per byte over the last few megabytes: sums that fade with every
// addition. Sums, because a socket buffer takes many bytes in no time and then none.
type cost struct{ nanoseconds, bytes float64 }

func newCost(perByte float64) cost { return cost{perByte * MaxFrame, MaxFrame} }

func (c *cost) add(n int, took time.Duration) {
	const fade = 7.0 / 8
	c.nanoseconds = c.nanoseconds*fade + float64(took)
	c.bytes = c.bytes*fade + float64(n)
}

func (c *cost) perByte() float64 { return c.nanoseconds / max(c.bytes, 1) }

const (
	samplePieces = 4
	samplePiece  = 16 << 10
)

// sampleRatio packs a sixteenth of a full frame, taken from four places of it because a
// frame may hold memory of different regions. buf is scratch of s2.MaxEncodedLen(samplePiece).
func sampleRatio(buf, frame []byte) (ratio float64, raw int) {
	packed := 0
	step := max(len(frame)/samplePieces, samplePiece)
	for at := 0; at < len(frame); at += step {
		piece := frame[at:min(at+samplePiece, len(frame))]
		raw += len(piece)
		packed += len(s2.Encode(buf, piece))
	}
	return float64(packed) / float64(raw), raw
}
