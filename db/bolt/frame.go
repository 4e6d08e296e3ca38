package bolt

import "encoding/binary"

// The frame around a record in the journal.
const (
	frameHead  = 8
	frameMark  = 0xA7 << 24
	maxPayload = 1 << 15
)

// appendFrame encodes e with its frame behind b.
func appendFrame(b []byte, e *entry) []byte {
	start := len(b)
	b = append(b, make([]byte, frameHead)...)
	b = appendRecord(b, e)
	binary.LittleEndian.PutUint32(b[start:], frameMark|uint32(len(b)-start-frameHead))
	binary.LittleEndian.PutUint32(b[start+4:], frameSum(b[start:]))
	return b
}

// frameSum is the checksum of a frame's length and payload.
func frameSum(frame []byte) uint32 {
	return crcUpdate(castagnoli(frame[:4]), frame[frameHead:])
}

// frameAt returns the payload of the frame that b begins with; whole says
// whether there is one with a right checksum.
func frameAt(b []byte) (payload []byte, whole bool) {
	if len(b) < frameHead {
		return nil, false
	}
	head := binary.LittleEndian.Uint32(b)
	n := int(head &^ (0xFF << 24))
	if head&(0xFF<<24) != frameMark || n == 0 || n > maxPayload || len(b) < frameHead+n {
		return nil, false
	}
	b = b[:frameHead+n]
	return b[frameHead:], frameSum(b) == binary.LittleEndian.Uint32(b[4:])
}

// scanFrames calls fn with the payload of each frame in data and the place where
// it begins. Bytes that are no frame are skipped up to the next one and told to
// damage; final says that nothing follows data, so that a rest that is no frame
// is damage too. It returns how many bytes were dealt with, and whether there
// was a frame.
func scanFrames(data []byte, final bool, fn func(payload []byte, at int), damage func(at, n int)) (n int, found bool) {
	for n < len(data) {
		if payload, whole := frameAt(data[n:]); whole {
			fn(payload, n+frameHead)
			n += frameHead + len(payload)
			found = true
			continue
		}
		if !final && len(data)-n < frameHead+maxPayload {
			return n, found // it may go on behind data
		}
		bad := n
		for n++; n < len(data); n++ {
			if !final && len(data)-n < frameHead+maxPayload {
				break
			}
			if _, whole := frameAt(data[n:]); whole {
				break
			}
		}
		damage(bad, n-bad)
		found = true
	}
	return n, found
}
