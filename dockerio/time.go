package dockerio

import (
	"fmt"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Time is a moment on the engine's clock. It is a type of its own so that it can never be compared with, or subtracted from, the
// host's clock by accident. The zero value means "unknown".
type Time struct{ t time.Time }

// EngineTime makes a Time of a moment the engine told. Docker's zero time (year 1) is the zero Time.
func EngineTime(t time.Time) Time {
	if t.Year() <= 1 {
		return Time{}
	}
	return Time{t.UTC()}
}

// ParseTime reads what the engine writes (RFC 3339 with or without fractions); unreadable text is the zero Time.
func ParseTime(s string) Time {
	t, err := time.Parse(time.RFC3339Nano, s)
	if err != nil {
		return Time{}
	}
	return EngineTime(t)
}

// UnixTime is a moment the engine told in whole seconds; 0 is the zero Time.
func UnixTime(sec int64) Time {
	if sec == 0 {
		return Time{}
	}
	return EngineTime(time.Unix(sec, 0))
}

// IsZero reports whether the moment is unknown.
func (t Time) IsZero() bool { return t.t.IsZero() }

// Equal reports whether both are the same moment.
func (t Time) Equal(u Time) bool { return t.t.Equal(u.t) }

// Sub is the time from u to t on the engine's clock.
func (t Time) Sub(u Time) time.Duration { return t.t.Sub(u.t) }

// Add is d later on the engine's clock.
func (t Time) Add(d time.Duration) Time { return Time{t.t.Add(d)} }

// Skew is engine clock − host clock, for a host time taken at the same moment.
func (t Time) Skew(host time.Time) time.Duration { return t.t.Sub(host) }

// Unix is the moment in whole seconds since 1970, and UnixNano in nanoseconds, on the engine's clock.
func (t Time) Unix() int64 { return t.t.Unix() }

// UnixNano is the moment in nanoseconds since 1970, on the engine's clock.
func (t Time) UnixNano() int64 { return t.t.UnixNano() }

// Since is the text Docker's events API takes: seconds and nine digits of nanoseconds.
func (t Time) Since() string {
	if t.IsZero() {
		return ""
	}
	return fmt.Sprintf("%d.%09d", t.t.Unix(), t.t.Nanosecond())
}

// Status is the moment as a resource's status shows it, to the microsecond; nil when unknown.
func (t Time) Status() *metav1.MicroTime {
	if t.IsZero() {
		return nil
	}
	m := metav1.NewMicroTime(t.t.Truncate(time.Microsecond))
	return &m
}

// MarshalText is RFC 3339 with nanoseconds, and nothing when unknown.
func (t Time) MarshalText() ([]byte, error) {
	if t.IsZero() {
		return nil, nil
	}
	return []byte(t.String()), nil
}

// UnmarshalText reads what MarshalText wrote.
func (t *Time) UnmarshalText(text []byte) error {
	*t = ParseTime(string(text))
	return nil
}

// String is RFC 3339 with nanoseconds, or "unknown".
func (t Time) String() string {
	if t.IsZero() {
		return "unknown"
	}
	return t.t.Format(time.RFC3339Nano)
}
