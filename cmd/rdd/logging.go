package main

import (
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"

	"github.com/charmbracelet/log"
	"gopkg.in/natefinch/lumberjack.v2"

	"github.com/rdd-desktop/rdd/supervisor"
)

const (
	// logFileMiB is the size at which the log begins a new file; logFiles old ones are kept.
	logFileMiB = 10
	logFiles   = 3
	timeFormat = "2006-01-02T15:04:05.000Z07:00"
)

func logFile(i supervisor.Instance) string { return filepath.Join(i.LogDir(), "rdd.log") }

// errFile catches what a daemon in the background writes to stderr: why it did not start, and the Go runtime's last words.
func errFile(i supervisor.Instance) string { return filepath.Join(i.LogDir(), "rdd.err") }

// newLogger logs to the instance's log file and, with also, to that writer too.
func newLogger(i supervisor.Instance, also io.Writer, level log.Level) (*slog.Logger, io.Closer) {
	file := &lumberjack.Logger{Filename: logFile(i), MaxSize: logFileMiB, MaxBackups: logFiles}
	if keepLogs() {
		file.MaxBackups = 0
	}
	handlers := []slog.Handler{newHandler(file, level, log.LogfmtFormatter)}
	if also != nil {
		handlers = append(handlers, newHandler(also, level, log.TextFormatter))
	}
	return slog.New(slog.NewMultiHandler(handlers...)), file
}

func newHandler(w io.Writer, level log.Level, format log.Formatter) *log.Logger {
	return log.NewWithOptions(w, log.Options{Level: level, Formatter: format, ReportTimestamp: true, TimeFormat: timeFormat})
}

// keepLogs reports whether RDD_KEEP_LOGS asks that no old log file is removed.
func keepLogs() bool {
	switch strings.ToLower(os.Getenv("RDD_KEEP_LOGS")) {
	case "", "0", "false", "no":
		return false
	}
	return true
}

// parseLevel reads --log-level. Error: BadRequest.
func parseLevel(s string) (log.Level, error) {
	level, err := log.ParseLevel(s)
	if err != nil || level > log.ErrorLevel {
		return 0, badRequest("unknown log level %q: want debug, info, warn or error", s)
	}
	return level, nil
}
