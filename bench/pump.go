//go:build linux

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"runtime"
	"slices"
	"strconv"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// pump is a load and the provider that answers it, in one loop over all their
// connections which never sleeps while there is a load.
//
// Somebody who sleeps has to be woken by whoever writes to them: a kernel does
// that in the writer's time, several microseconds on a virtual machine. A proxy
// that keeps a load busy seldom pays it and a slow one each time, so that it
// would be measured twice.
type pump struct {
	epoll, listener, bell int
	address               string
	peers                 []*peer // by descriptor
	flowing               []*peer // those that are sent a stream
	load                  atomic.Pointer[pumping]
}

// pumping is a load that is running.
type pumping struct {
	address  string
	requests [][]byte
	n        int // connections
	// stream says that the answers are streams, which begin at their times within
	// spread, and are read until the load stops.
	stream bool
	spread time.Duration
	begins []time.Duration

	done    atomic.Int64 // answers, or events
	stop    atomic.Bool
	reading atomic.Bool   // whether delays are noted
	ended   chan struct{} // closed when the last answer is there
	// Those may be read after ended.
	failure error
	delays  []time.Duration // from the sending of an event to its coming
	// Those are the loop's own.
	open, begun, turn int
	since             time.Time
}

// peer is one connection, of a caller's or the provider's.
type peer struct {
	fd   int
	load *pumping // nil at the provider
	buf  []byte
	n    int // bytes of buf that are filled
	// Of a stream that is sent: how many events are left, and when the next is due.
	left  int
	due   time.Time
	pause time.Duration
	event []byte
}

// newPump begins the loop, which ends with the process.
func newPump() (p *pump, err error) {
	p = &pump{}
	if p.epoll, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
		return nil, err
	}
	if p.bell, err = unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK); err != nil {
		return nil, err
	}
	if p.listener, err = socket(); err != nil {
		return nil, err
	}
	if err = unix.Bind(p.listener, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		return nil, err
	}
	if err = unix.Listen(p.listener, 1024); err != nil {
		return nil, err
	}
	name, err := unix.Getsockname(p.listener)
	if err != nil {
		return nil, err
	}
	p.address = net.JoinHostPort("127.0.0.1", strconv.Itoa(name.(*unix.SockaddrInet4).Port))
	for _, fd := range []int{p.listener, p.bell} {
		if err := p.enter(fd); err != nil {
			return nil, err
		}
	}
	go p.run()
	return p, nil
}

func socket() (int, error) {
	return unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
}

func (p *pump) enter(fd int) error {
	return unix.EpollCtl(p.epoll, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(fd)})
}

// closedLoop sends requests in turn over n connections, each one as soon as the
// one before it was answered.
func (p *pump) closedLoop(ctx context.Context, under *process, n int, d time.Duration, requests ...[]byte) (spent, error) {
	return p.meter(ctx, under, d, &pumping{requests: requests, n: n})
}

// streams reads n streams at once, and returns what an event cost and how long each
// was on its way. They begin within a second: one after the other in even steps, so
// that the events of those that are in step come together; or by chance, the same for
// all programs, so that most events come alone.
func (p *pump) streams(ctx context.Context, under *process, n int, chance bool, d time.Duration, request []byte) (spent, []time.Duration, error) {
	l := &pumping{requests: [][]byte{request}, n: n, stream: true, spread: time.Second}
	r := rand.New(rand.NewPCG(1, 2))
	for i := range n {
		at := l.spread * time.Duration(i) / time.Duration(n)
		if chance {
			at = time.Duration(r.Int64N(int64(l.spread)))
		}
		l.begins = append(l.begins, at)
	}
	slices.Sort(l.begins)
	s, err := p.meter(ctx, under, d, l)
	return s, l.delays, err
}

// meter lets a load run, and counts what it costs the process under test.
func (p *pump) meter(ctx context.Context, under *process, d time.Duration, l *pumping) (spent, error) {
	l.address, l.ended = under.address, make(chan struct{})
	p.load.Store(l)
	if _, err := unix.Write(p.bell, []byte{1, 0, 0, 0, 0, 0, 0, 0}); err != nil {
		return spent{}, err
	}
	var s spent
	err := wait(ctx, l.spread+warmup)
	if err == nil {
		l.reading.Store(true)
		s, err = meterLoad(ctx, under, d, &l.done)
		l.reading.Store(false)
	}
	l.stop.Store(true)
	select {
	case <-l.ended:
	case <-time.After(20 * time.Second):
		return s, errors.Join(err, fmt.Errorf("%s does not answer any more", under.name))
	}
	return s, errors.Join(err, l.failure)
}

// run serves the connections.
func (p *pump) run() {
	events := make([]unix.EpollEvent, 256)
	for empty := 0; ; {
		patience := -1
		if p.load.Load() != nil || len(p.flowing) > 0 {
			patience = 0
		}
		n, err := unix.EpollWait(p.epoll, events, patience)
		if err != nil && !errors.Is(err, unix.EINTR) {
			panic(err)
		}
		for _, e := range events[:max(n, 0)] {
			switch fd := int(e.Fd); fd {
			case p.listener:
				p.accept()
			case p.bell:
				_, _ = unix.Read(p.bell, make([]byte, 8))
			default:
				if x := p.peers[fd]; x != nil { // else it left a moment ago
					if err := p.ready(x); err != nil {
						p.leave(x, err)
					}
				}
			}
		}
		if l := p.load.Load(); l != nil {
			p.drive(l)
		}
		p.flow()
		if empty++; n > 0 {
			empty = 0
		}
		if empty%64 == 63 {
			runtime.Gosched() // others have something to do now and then
		}
	}
}

// drive begins and ends a load.
func (p *pump) drive(l *pumping) {
	if l.since.IsZero() {
		l.since = time.Now()
	}
	for l.begun < l.n && (!l.stream || time.Since(l.since) >= l.begins[l.begun]) {
		l.begun++
		x, err := p.call(l)
		if err != nil {
			l.failure = errors.Join(l.failure, err)
			l.begun = l.n
			break
		}
		l.open++
		if err = p.ask(x); err != nil {
			p.leave(x, err)
		}
	}
	if l.stop.Load() && l.stream {
		l.begun = l.n
		for _, x := range p.peers {
			if x != nil && x.load == l {
				p.leave(x, errPeer)
			}
		}
	}
	if l.open == 0 && l.begun == l.n {
		p.load.Store(nil)
		close(l.ended)
	}
}

// flow sends the events that are due.
func (p *pump) flow() {
	if len(p.flowing) == 0 {
		return
	}
	now := time.Now()
	p.flowing = slices.DeleteFunc(p.flowing, func(x *peer) bool {
		if p.peers[x.fd] != x {
			return true // it left
		}
		if now.Before(x.due) {
			return false
		}
		x.due = x.due.Add(x.pause)
		x.left--
		at := bytes.Index(x.event, []byte(timeMark)) + len(timeMark)
		strconv.AppendInt(x.event[:at], time.Now().UnixNano(), 10)
		if err := x.write(x.event); err != nil {
			p.leave(x, err)
			return true
		}
		return x.left == 0
	})
}

// call opens a caller's connection.
func (p *pump) call(l *pumping) (*peer, error) {
	conn, err := net.Dial("tcp", l.address) // which also knows how to wait
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	raw, err := conn.(*net.TCPConn).SyscallConn()
	if err != nil {
		return nil, err
	}
	var fd int
	var failure error
	if err := raw.Control(func(own uintptr) { fd, failure = unix.FcntlInt(own, unix.F_DUPFD_CLOEXEC, 0) }); err != nil {
		return nil, err
	}
	if failure != nil {
		return nil, failure
	}
	return p.join(fd, l)
}

func (p *pump) accept() {
	for {
		fd, _, err := unix.Accept4(p.listener, unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK)
		if err != nil {
			return
		}
		_ = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1)
		_, _ = p.join(fd, nil)
	}
}

func (p *pump) join(fd int, l *pumping) (*peer, error) {
	for len(p.peers) <= fd {
		p.peers = append(p.peers, nil)
	}
	x := &peer{fd: fd, load: l, buf: make([]byte, 64<<10)}
	p.peers[fd] = x
	if err := p.enter(fd); err != nil {
		_ = unix.Close(fd)
		return nil, err
	}
	return x, nil
}

// leave ends a connection. That of a caller's may only end after the load.
func (p *pump) leave(x *peer, err error) {
	_ = unix.Close(x.fd)
	p.peers[x.fd] = nil
	if x.load == nil {
		return
	}
	x.load.open--
	if !x.load.stop.Load() || !errors.Is(err, errPeer) {
		x.load.failure = errors.Join(x.load.failure, err)
	}
}

// ready takes what came, and sends what is next when it is whole.
func (p *pump) ready(x *peer) error {
	n, err := unix.Read(x.fd, x.buf[x.n:])
	switch {
	case errors.Is(err, unix.EAGAIN), errors.Is(err, unix.EINTR):
		return nil
	case err != nil:
		return err
	case n == 0:
		return errors.Join(errPeer, errors.New("the connection was closed"))
	}
	x.n += n
	if x.load != nil && x.load.stream {
		return x.events()
	}
	end := bytes.Index(x.buf[:x.n], endOfHead)
	if end < 0 {
		return x.room()
	}
	head := x.buf[:end+len(endOfHead)]
	length, err := contentLength(head)
	if err != nil {
		return err
	}
	whole := len(head) + max(length, 0)
	if x.n < whole {
		return x.room()
	}
	if x.load == nil {
		if script := scriptOf(x.buf[len(head):whole]); script.chunks > 0 {
			x.n = copy(x.buf, x.buf[whole:x.n])
			x.left, x.pause, x.due, x.event = script.chunks, script.pause, time.Now().Add(script.pause), newEvent()
			p.flowing = append(p.flowing, x)
			return x.write([]byte(streamHead))
		}
		out := wholeAnswer(head)
		x.n = copy(x.buf, x.buf[whole:x.n])
		return x.write(out)
	}
	if length < 0 || !bytes.HasPrefix(head, []byte("HTTP/1.1 200")) {
		return fmt.Errorf("the answer is %.200q", x.buf[:x.n])
	}
	x.n = 0
	x.load.done.Add(1)
	if x.load.stop.Load() {
		return errPeer
	}
	return p.ask(x)
}

// events reads what came of a stream.
func (x *peer) events() error {
	now, used := time.Now(), 0
	for {
		end := bytes.Index(x.buf[used:x.n], []byte("\n\n"))
		if end < 0 {
			break
		}
		if sent, ok := sentAt(x.buf[used : used+end]); ok {
			x.load.done.Add(1)
			if x.load.reading.Load() {
				x.load.delays = append(x.load.delays, now.Sub(sent))
			}
		} else if bytes.HasPrefix(x.buf[used:], []byte("HTTP/1.1 ")) && !bytes.HasPrefix(x.buf[used:], []byte("HTTP/1.1 200")) {
			return fmt.Errorf("the answer is %.200q", x.buf[used:x.n])
		}
		used += end + 2
	}
	x.n = copy(x.buf, x.buf[used:x.n])
	return x.room()
}

func (x *peer) room() error {
	if x.n == len(x.buf) {
		return errors.New("a message is too long")
	}
	return nil
}

// ask sends the next request.
func (p *pump) ask(x *peer) error {
	x.load.turn++
	return x.write(x.load.requests[x.load.turn%len(x.load.requests)])
}

func (x *peer) write(b []byte) error {
	for len(b) > 0 {
		n, err := unix.Write(x.fd, b)
		switch {
		case errors.Is(err, unix.EAGAIN):
			_, _ = unix.Poll([]unix.PollFd{{Fd: int32(x.fd), Events: unix.POLLOUT}}, 1000)
		case err != nil && !errors.Is(err, unix.EINTR):
			return err
		}
		b = b[max(n, 0):]
	}
	return nil
}
