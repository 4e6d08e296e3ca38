package bolt

import (
	"encoding/binary"
	"math"
	"time"
)

// tail is the end of the journal that is not folded yet, as it stands in the
// files: reports read it from here. Bytes are small, and nothing in them has to be
// followed by the garbage collector, however many records wait.
type tail struct {
	blocks []block
	count  int // records
	size   int // bytes that blocks take
}

// block is a piece of a journal file: whole frames, from the place off on. Frames
// are only ever added behind data, so that a copy of the block stays true.
type block struct {
	seq   uint64
	off   int64
	data  []byte
	count int
	// first and last are the hours between which its requests began.
	first, last int64
}

const (
	// blockSize is how much is taken from the heap at once, in bytes.
	blockSize = 64 << 10
	// maxTail is how much is kept for reports, in bytes.
	maxTail = 32 << 20
)

// add appends a frame that stands at a place in the file.
func (t *tail) add(seq uint64, off int64, frame []byte, start time.Time) {
	if t.size >= maxTail {
		*t = tail{} // they are in the file; only reports miss them for a while
	}
	n := len(t.blocks)
	if n == 0 || t.blocks[n-1].seq != seq || len(t.blocks[n-1].data)+len(frame) > cap(t.blocks[n-1].data) {
		t.blocks = append(t.blocks, block{seq: seq, off: off, data: make([]byte, 0, max(blockSize, len(frame))), first: math.MaxInt64, last: math.MinInt64})
		t.size += cap(t.blocks[n].data)
		n++
	}
	b := &t.blocks[n-1]
	b.data = append(b.data, frame...)
	hour := floorDiv(start.Unix(), secondsPerHour)
	b.first, b.last = min(b.first, hour), max(b.last, hour)
	b.count++
	t.count++
}

// forget drops the records before p.
func (t *tail) forget(p position) {
	// Readers may hold the old slice, so it is never moved within itself.
	for len(t.blocks) > 0 {
		b := &t.blocks[0]
		if b.seq > p.seq || b.seq == p.seq && b.off >= p.off {
			return
		}
		t.count -= b.count
		if b.seq == p.seq && b.off+int64(len(b.data)) > p.off {
			rest := b.from(p)
			t.count += rest.count
			t.size -= cap(b.data) - cap(rest.data)
			t.blocks = append([]block{rest}, t.blocks[1:]...)
			return
		}
		t.size -= cap(b.data)
		t.blocks = t.blocks[1:]
	}
	*t = tail{}
}

// from returns the block without the frames before p.
func (b block) from(p position) block {
	for b.off < p.off && len(b.data) > 0 {
		n := frameHead + int(binary.LittleEndian.Uint32(b.data)&^(0xFF<<24))
		b.data, b.off = b.data[n:], b.off+int64(n)
		b.count--
	}
	return b
}

// records returns those of the blocks that are behind a place, without blocks in
// which no request began in the hours from one to another.
func records(blocks []block, behind position, from, to int64) (list []numbered, err error) {
	known := texts{}
	for _, b := range blocks {
		if b.last < from || b.first >= to {
			continue
		}
		scanFrames(b.data, true, func(payload []byte, at int) {
			end := position{b.seq, b.off + int64(at+len(payload))}
			if end.compare(behind) <= 0 || err != nil {
				return
			}
			var e entry
			if e, err = decodeRecord(payload, known); err == nil {
				list = append(list, numbered{&e, end})
			}
		}, func(int, int) { err = errRecord })
	}
	return list, err
}
