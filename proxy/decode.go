package proxy

import (
	"bufio"
	"compress/flate"
	"compress/gzip"
	"compress/zlib"
	"errors"
	"fmt"
	"io"
	"iter"
	"strings"

	"github.com/klauspost/compress/zstd"
	brotli "github.com/molecule-man/go-brrr"
)

const (
	// maxDecoded bounds how many bytes of a compressed answer are looked at, so
	// that a small answer that unpacks without end costs little.
	maxDecoded = 64 << 20
	// maxWindow bounds the memory of one decoder; HTTP allows zstd no more.
	maxWindow = 8 << 20
)

// decoder makes a decoded copy of compressed bytes in step with them: write
// returns when all that can be told from the bytes so far was told. It runs as
// a coroutine and not beside its caller, so that there is nothing to lock and
// nothing to wait for; end releases it.
type decoder struct {
	next func() (struct{}, bool)
	stop func()
	in   encodedSource
}

// newDecoder returns a decoder that gives the decoded bytes to feed, nil for an
// encoding that it does not know.
func newDecoder(encoding string, feed func([]byte)) *decoder {
	encoding = strings.ToLower(strings.TrimSpace(encoding))
	switch encoding {
	case "gzip", "x-gzip", "deflate", "br", "zstd":
	default:
		return nil
	}
	d := &decoder{}
	d.next, d.stop = iter.Pull(func(yield func(struct{}) bool) {
		d.in.yield = yield
		// What cannot be decoded is not metered; the bytes pass all the same.
		_ = decodeAll(encoding, &d.in, feed)
	})
	return d
}

// write decodes the next bytes. It keeps none of them.
func (d *decoder) write(p []byte) {
	d.in.p = p
	d.next()
	d.in.p = nil
}

// end decodes what is left and releases the decoder. It may be called again.
func (d *decoder) end() {
	d.in.eof = true
	d.next()
	d.stop()
}

// encodedSource is the reader at the coroutine's side: where it has no bytes it lets
// the writer go on.
type encodedSource struct {
	p     []byte
	eof   bool
	yield func(struct{}) bool
}

func (s *encodedSource) wait() error {
	for len(s.p) == 0 {
		if s.eof {
			return io.EOF
		}
		if !s.yield(struct{}{}) {
			return io.ErrUnexpectedEOF
		}
	}
	return nil
}

func (s *encodedSource) Read(p []byte) (int, error) {
	if err := s.wait(); err != nil {
		return 0, err
	}
	n := copy(p, s.p)
	s.p = s.p[n:]
	return n, nil
}

// ReadByte lets gzip and flate read without a buffer of their own, in which
// bytes could wait.
func (s *encodedSource) ReadByte() (byte, error) {
	if err := s.wait(); err != nil {
		return 0, err
	}
	b := s.p[0]
	s.p = s.p[1:]
	return b, nil
}

func decodeAll(encoding string, src *encodedSource, feed func([]byte)) (err error) {
	defer func() {
		// The bytes are a stranger's. A decoder that panics on them must not take
		// the answer with it.
		if v := recover(); v != nil {
			err = fmt.Errorf("decode %s: %v", encoding, v)
		}
	}()
	r, err := openEncoding(encoding, src)
	if err != nil {
		return err
	}
	defer r.Close()
	buf := make([]byte, 16<<10)
	for total := 0; total < maxDecoded; {
		n, err := r.Read(buf)
		feed(buf[:n])
		total += n
		if err != nil {
			return err
		}
	}
	return errors.New("too large")
}

func openEncoding(encoding string, src *encodedSource) (io.ReadCloser, error) {
	switch encoding {
	case "br":
		return brotli.NewReader(src), nil
	case "zstd":
		r, err := zstd.NewReader(src, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true),
			zstd.WithDecoderMaxWindow(maxWindow), zstd.WithDecoderMaxMemory(maxDecoded))
		if err != nil {
			return nil, err
		}
		return r.IOReadCloser(), nil
	case "deflate":
		// The name means zlib's format; some send bare deflate.
		b := bufio.NewReaderSize(src, 16)
		head, err := b.Peek(2)
		if err != nil {
			return nil, err
		}
		if head[0]&0x0f == 8 && (int(head[0])<<8|int(head[1]))%31 == 0 {
			return zlib.NewReader(b)
		}
		return flate.NewReader(b), nil
	}
	return gzip.NewReader(src)
}
