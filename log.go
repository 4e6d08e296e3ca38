package main

import (
	"io"
	"os"
	"sync"
	"time"

	"github.com/rs/zerolog"
	"golang.org/x/term"

	"tokenhub/config"
)

// newLog returns the logger of the configuration, which writes to w, and what
// writes down the lines that wait: to be called at the end.
func newLog(c config.Log, w io.Writer) (log zerolog.Logger, flush func()) {
	zerolog.TimeFieldFormat = timeFormat // for who reads it: a console's form
	zerolog.DurationFieldUnit = time.Millisecond
	zerolog.DurationFieldInteger = true
	lines := &lines{to: w}
	lines.out = lines
	file, ok := w.(*os.File)
	if c.Format == "console" || c.Format == "auto" && ok && term.IsTerminal(int(file.Fd())) {
		lines.out = zerolog.ConsoleWriter{Out: lines, TimeFormat: "15:04:05.000"}
	}
	setLevel(c.Level)
	return zerolog.New(lines).Hook(&stamp{}), lines.flush
}

// timeFormat is how the log writes times.
const timeFormat = "2006-01-02T15:04:05.000Z07:00"

// stamp writes the time into lines of the log. To write down a date anew for each
// request would cost as much as all the rest of its line.
type stamp struct {
	mu     sync.Mutex // guards what follows
	second int64
	text   []byte // in quotes
}

// Run implements [zerolog.Hook].
func (s *stamp) Run(e *zerolog.Event, _ zerolog.Level, _ string) {
	if !e.Enabled() {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	e.RawJSON(zerolog.TimestampFieldName, s.at(time.Now()))
}

// at is a time as it stands in a line.
func (s *stamp) at(now time.Time) []byte {
	if second := now.Unix(); second != s.second || s.text == nil {
		s.second = second
		s.text = now.AppendFormat(s.text[:0], `"`+timeFormat+`"`)
		return s.text
	}
	const millis = len(`"2006-01-02T15:04:05.`)
	n := now.Nanosecond() / int(time.Millisecond)
	s.text[millis], s.text[millis+1], s.text[millis+2] = '0'+byte(n/100), '0'+byte(n/10%10), '0'+byte(n%10)
	return s.text
}

// setLevel sets what is logged, for all loggers of the process.
func setLevel(level string) {
	if l, err := zerolog.ParseLevel(level); err == nil {
		zerolog.SetGlobalLevel(l)
	}
}

// lines writes lines of a log together: a system call for each would be a
// thirtieth of a small request. A warning takes along what waits before it, and
// nothing waits for longer than a moment.
type lines struct {
	to  io.Writer
	out io.Writer // what makes lines of events: itself, or a console's form

	mu      sync.Mutex // guards what follows
	waiting []byte
	timer   *time.Timer // runs while something waits
}

const (
	// linesWait is how long a line waits for others.
	linesWait = 5 * time.Millisecond
	// maxLines is how much waits, in bytes.
	maxLines = 32 << 10
)

// WriteLevel implements [zerolog.LevelWriter].
func (l *lines) WriteLevel(level zerolog.Level, p []byte) (int, error) {
	n, err := l.out.Write(p)
	if level >= zerolog.WarnLevel {
		l.flush()
	}
	return n, err
}

// Write takes one line.
func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	begins := len(l.waiting) == 0
	l.waiting = append(l.waiting, p...)
	switch {
	case len(l.waiting) >= maxLines:
		l.write()
	case !begins: // the timer runs
	case l.timer == nil:
		l.timer = time.AfterFunc(linesWait, l.flush)
	default:
		l.timer.Reset(linesWait)
	}
	return len(p), nil
}

// flush writes what waits.
func (l *lines) flush() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.write()
}

// write does that under mu. Who reads the log may be gone; there is nobody to be
// told.
func (l *lines) write() {
	if len(l.waiting) > 0 {
		_, _ = l.to.Write(l.waiting)
		l.waiting = l.waiting[:0]
	}
}
