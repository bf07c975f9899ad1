// Package server answers Docker's HTTP API for a simulated engine, on a socket: well enough for the real docker command and for
// dockerio/moby. What it says, with which status and in which words, is what version 1.41 of the API says; tests/conformance
// compares the two.
//
// It keeps nothing: every answer is made of the engine's state at that moment, and the engine's faults are the server's too. A call
// that the engine does not answer (it is down) ends with its connection.
//
// The JSON is written here, without the types of Docker's own API: those are of a newer version and leave out what 1.41 says.
package server

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"sync"

	"github.com/rdd-desktop/rdd/dockerio/sim"
)

// Server serves one engine.
type Server struct {
	engine *sim.Engine
	http   *http.Server
	// ctx ends with the server: hijacked connections are not known to net/http.
	ctx   context.Context
	end   context.CancelFunc
	serve sync.WaitGroup
}

// New makes a server; nothing listens yet.
func New(engine *sim.Engine) *Server {
	s := &Server{engine: engine}
	s.ctx, s.end = context.WithCancel(context.Background())
	s.http = &http.Server{
		Handler: s.versioned(s.routes()), BaseContext: func(net.Listener) context.Context { return s.ctx },
		ErrorLog: log.New(io.Discard, "", 0),
	}
	return s
}

// Serve answers on a listener until Close. It returns at once.
func (s *Server) Serve(l net.Listener) { s.serve.Go(func() { _ = s.http.Serve(l) }) }

// Close ends the listeners and every connection.
func (s *Server) Close() error {
	s.end()
	err := s.http.Close()
	s.serve.Wait()
	return err
}

// call is one request on its way.
type call struct {
	*http.Request
	engine *sim.Engine
	// name is the object of the path.
	name  string
	query func(string) string
}

func (c *call) flag(name string) bool {
	set, _ := strconv.ParseBool(c.query(name))
	return set
}

// decode reads the request's body.
func (c *call) decode(into any) error {
	if err := json.NewDecoder(c.Body).Decode(into); err != nil && !errors.Is(err, io.EOF) {
		return &sim.Refusal{Status: http.StatusBadRequest, Text: err.Error()}
	}
	return nil
}

// What a handler returns besides a value to be written as JSON.
type (
	// created is answered with 201.
	created struct{ body any }
	// nothing is 204, and unchanged 304.
	nothing   struct{}
	unchanged struct{}
	// streamed writes its answer itself. An error breaks the connection.
	streamed func(w http.ResponseWriter) error
)

type handler func(c *call) (any, error)

type route struct {
	pattern  string
	op       string
	mutating bool
	handle   handler
}

func (s *Server) routes() http.Handler {
	mux := http.NewServeMux()
	for _, list := range [][]route{systemRoutes, containerRoutes, imageRoutes, volumeRoutes} {
		for _, r := range list {
			mux.HandleFunc(r.pattern, func(w http.ResponseWriter, q *http.Request) { s.run(w, q, r) })
		}
	}
	mux.HandleFunc("/", func(w http.ResponseWriter, q *http.Request) {
		refuse(w, &sim.Refusal{Status: http.StatusNotFound, Text: "page not found"})
	})
	return mux
}

// run is one call of the API: through the engine's faults to its handler, and back.
func (s *Server) run(w http.ResponseWriter, q *http.Request, r route) {
	c := &call{Request: q, engine: s.engine, name: q.PathValue("name"), query: q.URL.Query().Get}
	if strings.HasPrefix(r.pattern, "GET /images/{name...}") || strings.HasPrefix(r.pattern, "POST /images/{name...}") {
		c.name = c.name[:max(0, strings.LastIndex(c.name, "/"))]
	}
	var out any
	err := s.engine.Call(q.Context(), r.op, c.name, r.mutating, func() (err error) {
		out, err = r.handle(c)
		return err
	})
	var corrupt sim.Corruption
	refusal, refused := sim.Refused(err)
	switch {
	case errors.As(err, &corrupt):
		write(w, http.StatusOK, []byte(corruption[corrupt]))
	case refused:
		refuse(w, refusal)
	case err != nil:
		panic(http.ErrAbortHandler) // the engine is down, or the caller has gone
	default:
		answer(w, out)
	}
}

// corruption is what cannot be read.
var corruption = map[sim.Corruption]string{sim.Garbage: "\x00garbage<html>", sim.Truncated: `[{"Id":"0123456789ab`}

func answer(w http.ResponseWriter, out any) {
	switch out := out.(type) {
	case nothing:
		w.WriteHeader(http.StatusNoContent)
	case unchanged:
		w.WriteHeader(http.StatusNotModified)
	case streamed:
		if err := out(w); err != nil {
			panic(http.ErrAbortHandler)
		}
	case created:
		writeJSON(w, http.StatusCreated, out.body)
	default:
		writeJSON(w, http.StatusOK, out)
	}
}

func refuse(w http.ResponseWriter, r *sim.Refusal) {
	writeJSON(w, r.Status, map[string]string{"message": r.Text})
}

func writeJSON(w http.ResponseWriter, status int, body any) {
	encoded, err := json.Marshal(body)
	if err != nil {
		status, encoded = http.StatusInternalServerError, []byte(`{"message":"the answer cannot be written"}`)
	}
	write(w, status, append(encoded, '\n'))
}

func write(w http.ResponseWriter, status int, body []byte) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(status)
	_, _ = w.Write(body)
}

var versionPrefix = regexp.MustCompile(`^/v(\d+)\.(\d+)(/.*)$`)

// versioned takes the version off the path, if it is one that the engine speaks.
func (s *Server) versioned(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		w.Header().Set("Api-Version", sim.APIVersion)
		w.Header().Set("Docker-Experimental", "false")
		w.Header().Set("Ostype", "linux")
		w.Header().Set("Server", "Docker/"+sim.Version+" (linux)")
		floor := s.engine.Faults().Floor()
		asked := sim.APIVersion
		if m := versionPrefix.FindStringSubmatch(q.URL.Path); m != nil {
			asked = m[1] + "." + m[2]
			q.URL.Path, q.URL.RawPath = m[3], ""
		}
		newest := sim.APIVersion
		if older(newest, floor) { // an upgrade raises both ends
			newest = floor
			w.Header().Set("Api-Version", newest)
		}
		switch {
		case q.URL.Path == "/_ping":
		case older(newest, asked):
			refuse(w, &sim.Refusal{Status: http.StatusBadRequest,
				Text: "client version " + asked + " is too new. Maximum supported API version is " + newest})
			return
		case older(asked, floor):
			refuse(w, sim.TooOld(asked, floor))
			return
		}
		next.ServeHTTP(w, q)
	})
}

// older compares two versions of the API.
func older(a, b string) bool {
	minor := func(v string) int {
		_, text, _ := strings.Cut(v, ".")
		n, _ := strconv.Atoi(text)
		return n
	}
	return minor(a) < minor(b)
}
