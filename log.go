package main

import (
	"io"
	"os"
	"time"

	"github.com/rs/zerolog"
	"golang.org/x/term"

	"tokenhub/config"
)

// newLog returns the logger of the configuration, which writes to w.
func newLog(c config.Log, w io.Writer) zerolog.Logger {
	zerolog.TimeFieldFormat = "2006-01-02T15:04:05.000Z07:00"
	zerolog.DurationFieldUnit = time.Millisecond
	zerolog.DurationFieldInteger = true
	file, ok := w.(*os.File)
	if c.Format == "console" || c.Format == "auto" && ok && term.IsTerminal(int(file.Fd())) {
		w = zerolog.ConsoleWriter{Out: w, TimeFormat: "15:04:05.000"}
	}
	setLevel(c.Level)
	return zerolog.New(w).With().Timestamp().Logger()
}

// setLevel sets what is logged, for all loggers of the process.
func setLevel(level string) {
	if l, err := zerolog.ParseLevel(level); err == nil {
		zerolog.SetGlobalLevel(l)
	}
}
