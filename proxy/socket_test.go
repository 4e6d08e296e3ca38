package proxy

import (
	"bytes"
	"crypto/rand"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/rs/zerolog"
)

// socketPair is a connection as the gateway's server gets it, and its other end.
func socketPair(t *testing.T) (ours, theirs net.Conn) {
	t.Helper()
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ln := NewListener(inner, zerolog.Nop())
	defer ln.Close()
	if theirs, err = net.Dial("tcp", ln.Addr().String()); err != nil {
		t.Fatal(err)
	}
	if ours, err = ln.Accept(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ours.Close(); theirs.Close() })
	if _, ok := ours.(*socket); !ok {
		t.Fatalf("got a %T", ours)
	}
	return ours, theirs
}

// What is written at one end comes out at the other, in pieces of all sizes and in
// both directions at once, also where the reader is slow and buffers are full.
func TestSocketPassesBytes(t *testing.T) {
	ours, theirs := socketPair(t)
	data := make([]byte, 16<<20)
	_, _ = rand.Read(data)
	var wait sync.WaitGroup
	for _, way := range []struct{ from, to net.Conn }{{ours, theirs}, {theirs, ours}} {
		wait.Go(func() {
			left := data
			for size := 1; len(left) > 0; size = (size*3 + 1) % 200_000 {
				n := min(size+1, len(left))
				if m, err := way.from.Write(left[:n]); m != n || err != nil {
					t.Errorf("wrote %d of %d: %v", m, n, err)
				}
				left = left[n:]
			}
			_ = way.from.(interface{ CloseWrite() error }).CloseWrite()
		})
		wait.Go(func() {
			var got bytes.Buffer
			for size := 1; ; size = (size*5 + 1) % 100_000 {
				piece := make([]byte, size+1)
				n, err := way.to.Read(piece)
				got.Write(piece[:n])
				if err == io.EOF {
					break
				}
				if err != nil {
					t.Error(err)
					break
				}
			}
			if !bytes.Equal(got.Bytes(), data) {
				t.Errorf("%d bytes came, not those that were sent", got.Len())
			}
		})
	}
	wait.Wait()
}

// A reader or writer that waits is interrupted by a deadline and by the closing.
func TestSocketWaitsNoLongerThanItMay(t *testing.T) {
	for _, small := range []int{1000, maxTurn + 1} {
		ours, _ := socketPair(t)
		if err := ours.SetDeadline(time.Now().Add(20 * time.Millisecond)); err != nil {
			t.Fatal(err)
		}
		if n, err := ours.Read(make([]byte, small)); n != 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("read %d, %v", n, err)
		}
		if err := ours.SetDeadline(time.Now().Add(50 * time.Millisecond)); err != nil {
			t.Fatal(err)
		}
		for err := error(nil); err == nil; { // the other end does not read
			if _, err = ours.Write(make([]byte, small)); err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Error(err)
			}
		}
		if err := ours.SetDeadline(time.Time{}); err != nil {
			t.Fatal(err)
		}
		ended := make(chan error, 2)
		go func() { _, err := ours.Read(make([]byte, small)); ended <- err }()
		go func() {
			for { // the system may have made room meanwhile
				if _, err := ours.Write(make([]byte, small)); err != nil {
					ended <- err
					return
				}
			}
		}()
		ours.Close()
		for range 2 {
			if err := <-ended; !errors.Is(err, net.ErrClosed) {
				t.Errorf("after the closing: %v", err)
			}
		}
	}
}

// The end and a reset are told as package net tells them.
func TestSocketTellsHowItEnded(t *testing.T) {
	ours, theirs := socketPair(t)
	theirs.Close()
	if n, err := ours.Read(make([]byte, 10)); n != 0 || err != io.EOF {
		t.Errorf("read %d, %v after the end", n, err)
	}
	ours, theirs = socketPair(t)
	_ = theirs.(*net.TCPConn).SetLinger(0)
	theirs.Close()
	_, err := ours.Read(make([]byte, 10))
	op, ok := errors.AsType[*net.OpError](err)
	if !ok || op.Op != "read" || !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("read: %v after a reset", err)
	}
	_, err = ours.Write(make([]byte, 10))
	if op, ok = errors.AsType[*net.OpError](err); !ok || op.Op != "write" || !errors.Is(err, syscall.EPIPE) {
		t.Errorf("write: %v after a reset", err)
	}
}
