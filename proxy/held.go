package proxy

import (
	"math/bits"
	"net"
	"sync"
	"sync/atomic"
)

// held is the memory of a large request body. It is used again, which spares
// the system the zeroing of millions of bytes for each: once nobody reads in it
// any more. A transport may go on reading after it has answered, until it closes
// the body that it was given.
type held struct {
	bytes []byte
	users atomic.Int32
}

const (
	// heldFrom is the size of a body whose memory is used again, in bytes.
	heldFrom   = 64 << 10
	heldLevels = 64
)

// heldPools are what is free, by the power of two of its size.
var heldPools [heldLevels]sync.Pool

// newHeld returns memory for n bytes, of which the caller is the one user.
// There is anything in it.
func newHeld(n int) *held {
	level := bits.Len(uint(n - 1))
	h, ok := heldPools[level].Get().(*held)
	if !ok {
		h = &held{bytes: make([]byte, 1<<level)}
	}
	h.users.Store(1)
	return h
}

// use adds a user.
func (h *held) use() { h.users.Add(1) }

// done takes a user away; the last one leaves the memory to others.
func (h *held) done() {
	if h.users.Add(-1) == 0 {
		heldPools[bits.Len(uint(len(h.bytes)-1))].Put(h)
	}
}

// heldBody is a body in memory on its way to a provider: what is left of it.
type heldBody struct {
	net.Buffers
	of     *held
	closed atomic.Bool
}

// Close says that nobody reads in the memory any more.
func (b *heldBody) Close() error {
	if !b.closed.Swap(true) {
		b.of.done()
	}
	return nil
}
