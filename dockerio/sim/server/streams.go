package server

import (
	"bufio"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/rdd-desktop/rdd/dockerio"
	"github.com/rdd-desktop/rdd/dockerio/sim"
)

func waitContainer(c *call) (any, error) {
	w, err := c.engine.Wait(c.name, c.query("condition"))
	if err != nil {
		return nil, err
	}
	return streamed(func(out http.ResponseWriter) error {
		out.Header().Set("Content-Type", "application/json")
		out.WriteHeader(http.StatusOK)
		flush(out)
		code, err := w.Code(c.Context())
		if err != nil {
			return err
		}
		return json.NewEncoder(out).Encode(map[string]any{"Error": nil, "StatusCode": code})
	}), nil
}

func flush(w http.ResponseWriter) {
	if f, ok := w.(http.Flusher); ok {
		f.Flush()
	}
}

// logs sends a container's log, each piece behind a header that says which of the two outputs it is.
func logs(c *call) (any, error) {
	if !c.flag("stdout") && !c.flag("stderr") {
		return nil, invalid("Bad parameters: you must choose at least one stream")
	}
	since, err := parseMoment(zeroEmpty(c.query("since")))
	if err != nil {
		return nil, err
	}
	until, err := parseMoment(zeroEmpty(c.query("until")))
	if err != nil {
		return nil, err
	}
	one, err := c.engine.ContainerByRef(c.name)
	if err != nil {
		return nil, err
	}
	wanted := func(l sim.LogLine) bool {
		return (l.Stderr && c.flag("stderr") || !l.Stderr && c.flag("stdout")) && (since.IsZero() || l.Time.Sub(since) >= 0) &&
			(until.IsZero() || l.Time.Sub(until) <= 0)
	}
	skip, err := c.tail(one.ID, wanted)
	if err != nil {
		return nil, err
	}
	from, err := c.engine.Logs(one.ID, c.flag("follow"))
	if err != nil {
		return nil, err
	}
	return streamed(func(w http.ResponseWriter) error {
		w.Header().Set("Content-Type", "application/vnd.docker.raw-stream")
		w.WriteHeader(http.StatusOK)
		flush(w)
		for {
			line, err := from.Next(c.Context())
			switch {
			case errors.Is(err, io.EOF):
				return nil
			case err != nil:
				return err
			case !wanted(line):
				continue
			case skip > 0:
				skip--
				continue
			}
			text := line.Text + "\n"
			if c.flag("timestamps") {
				text = line.Time.String() + " " + text
			}
			if err := frame(w, line.Stderr, text); err != nil {
				return err
			}
			flush(w)
		}
	}), nil
}

// zeroEmpty is how clients say that there is no bound.
func zeroEmpty(text string) string {
	if text == "0" {
		return ""
	}
	return text
}

// tail is how many lines of the log to leave out for the query's tail.
func (c *call) tail(id string, wanted func(sim.LogLine) bool) (skip int, err error) {
	n, err := strconv.Atoi(c.query("tail"))
	if err != nil || n < 0 { // "all", or nothing that is a number
		return 0, nil
	}
	from, err := c.engine.Logs(id, false)
	if err != nil {
		return 0, err
	}
	all := 0
	for {
		line, err := from.Next(c.Context())
		if err != nil {
			break
		}
		if wanted(line) {
			all++
		}
	}
	return max(0, all-n), nil
}

// frame writes one piece of output in Docker's multiplexed format.
func frame(w io.Writer, stderr bool, text string) error {
	header := [8]byte{1}
	if stderr {
		header[0] = 2
	}
	binary.BigEndian.PutUint32(header[4:], uint32(len(text)))
	_, err := w.Write(append(header[:], text...))
	return err
}

// attach takes the connection over and sends what the container writes until it has ended.
func attach(c *call) (any, error) {
	one, err := c.engine.ContainerByRef(c.name)
	if err != nil {
		return nil, err
	}
	from, err := c.engine.Attach(one.ID)
	if err != nil {
		return nil, err
	}
	return streamed(func(w http.ResponseWriter) error {
		conn, buffered, err := http.NewResponseController(w).Hijack()
		if err != nil {
			return err
		}
		defer func() { _ = conn.Close() }()
		_, _ = buffered.WriteString("HTTP/1.1 101 UPGRADED\r\nContent-Type: application/vnd.docker.raw-stream\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n")
		_ = buffered.Flush()
		// The connection is ours now: its context ends only with the server, and who has gone is seen by writing.
		for {
			line, err := from.Next(c.Context())
			if err != nil {
				return nil
			}
			if err := copyLine(buffered, line); err != nil {
				return nil
			}
		}
	}), nil
}

func copyLine(to *bufio.ReadWriter, line sim.LogLine) error {
	if err := frame(to, line.Stderr, line.Text+"\n"); err != nil {
		return err
	}
	return to.Flush()
}

// events streams what happens, each event as one JSON value.
func events(c *call) (any, error) {
	since, err := parseMoment(c.query("since"))
	if err != nil {
		return nil, err
	}
	until, err := parseMoment(c.query("until"))
	if err != nil {
		return nil, err
	}
	if !until.IsZero() && since.Sub(until) > 0 {
		return nil, invalid("`since` time (%s) cannot be after `until` time (%s)", c.query("since"), c.query("until"))
	}
	f, err := c.filters("config", "container", "daemon", "event", "image", "label", "network", "node", "plugin", "scope", "secret", "service",
		"type", "volume")
	if err != nil {
		return nil, err
	}
	return streamed(func(w http.ResponseWriter) error { return c.sendEvents(w, f, since, until) }), nil
}

func (c *call) sendEvents(w http.ResponseWriter, f filters, since, until dockerio.Time) error {
	from := c.engine.Events(c.Context(), since)
	defer from.Close()
	if !until.IsZero() {
		timer := time.AfterFunc(max(0, until.Sub(c.engine.Now())), from.Finish)
		defer timer.Stop()
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusOK)
	flush(w)
	for {
		event, err := from.Next()
		var corrupt sim.Corruption
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case errors.As(err, &corrupt):
			_, err := io.WriteString(w, corruption[corrupt])
			return err
		case err != nil:
			return err
		case !until.IsZero() && event.Time.Sub(until) > 0:
			return nil
		case !f.event(event):
			continue
		}
		if err := json.NewEncoder(w).Encode(eventRow(event)); err != nil {
			return err
		}
		flush(w)
	}
}

func eventRow(e dockerio.Event) map[string]any {
	row := map[string]any{
		"Type": e.Type, "Action": e.Action, "Actor": map[string]any{"ID": e.ID, "Attributes": filled(e.Attributes)}, "scope": "local",
		"time": e.Time.Unix(), "timeNano": e.Time.UnixNano(),
	}
	if e.Type == dockerio.TypeContainer || e.Type == dockerio.TypeImage {
		row["status"], row["id"] = e.Action, e.ID
		if from := e.Attributes["image"]; from != "" && e.Type == dockerio.TypeContainer {
			row["from"] = from
		}
	}
	return row
}

// event is the filters of the stream.
func (f filters) event(e dockerio.Event) bool {
	action, _, _ := strings.Cut(e.Action, ":")
	object := func(kind string) bool {
		return f.any(kind, func(v string) bool {
			return e.Type == kind && (e.ID == v || e.Attributes["name"] == v || len(v) >= 12 && strings.HasPrefix(e.ID, v))
		})
	}
	return f.exact("type", e.Type) && f.any("event", func(v string) bool { return v == e.Action || v == action }) &&
		f.labels(e.Attributes) && f.exact("scope", "local") && len(slices.Concat(f["daemon"], f["node"], f["service"])) == 0 &&
		object(dockerio.TypeContainer) && object(dockerio.TypeVolume) && object(dockerio.TypeNetwork) &&
		f.any("image", func(v string) bool { return imageOfEvent(e, v) })
}

// imageOfEvent tells whether an event is about an image, or about a container made from it.
func imageOfEvent(e dockerio.Event, v string) bool {
	name := e.Attributes["image"]
	if e.Type == dockerio.TypeImage {
		name = e.Attributes["name"]
	}
	repository, _, _ := strings.Cut(name, ":")
	return v == name || v == repository || v == e.ID || fmt.Sprintf("%s:latest", v) == name
}
