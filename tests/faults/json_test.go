package faults

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"maps"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rdd-desktop/rdd/dockerio/sim"
	"github.com/rdd-desktop/rdd/dockerio/sim/server"
	"github.com/rdd-desktop/rdd/messages"
	"github.com/rdd-desktop/rdd/supervisor"
	"github.com/rdd-desktop/rdd/vmdriver"
)

// liar stands between rdd and an engine on a socket, and changes the JSON of a share of the answers and events.
type liar struct {
	place
	socket string

	mu     sync.Mutex
	random *rand.Rand
	share  float64
	lies   int
	// instead, if set, is what the answer to a path is made to say.
	instead func(path string, answer any)
}

func (l *liar) Endpoint(context.Context, vmdriver.Spec) (messages.Endpoint, error) {
	return messages.Endpoint{Host: "unix://" + l.socket}, nil
}

func (l *liar) set(share float64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.share = share
}

func (l *liar) say(instead func(path string, answer any)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.instead = instead
}

func (l *liar) told() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.lies
}

// newLiar serves the world, and itself before it, until the test ends.
func newLiar(t *testing.T, world *sim.Engine, seed uint64) *liar {
	t.Helper()
	dir, err := os.MkdirTemp("", "rddl") // short: it gets sockets
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, os.RemoveAll(dir)) })
	truth := filepath.Join(dir, "t")
	l := &liar{place: place{world}, socket: filepath.Join(dir, "l"), random: rand.New(rand.NewPCG(seed, 48))}
	listener, err := net.Listen("unix", truth)
	require.NoError(t, err)
	s := server.New(world)
	s.Serve(listener)
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	transport := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", truth)
	}}
	t.Cleanup(transport.CloseIdleConnections)
	proxy := httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: "engine"})
	proxy.Transport, proxy.FlushInterval, proxy.ModifyResponse = transport, -1, l.modify
	proxy.ErrorLog = log.New(io.Discard, "", 0)
	front := &http.Server{Handler: proxy, ErrorLog: proxy.ErrorLog}
	listener, err = net.Listen("unix", l.socket)
	require.NoError(t, err)
	var served sync.WaitGroup
	served.Go(func() { _ = front.Serve(listener) })
	t.Cleanup(func() { require.NoError(t, front.Close()); served.Wait() })
	return l
}

// start runs rdd on what the liar says.
func (l *liar) start(t *testing.T) (*house, *supervisor.Rdd) {
	t.Helper()
	r, err := supervisor.Start(t.Context(), supervisor.Config{
		Drivers:   map[string]vmdriver.Driver{messages.DriverExternal: l},
		Intervals: supervisor.Intervals{Audit: 100 * time.Millisecond, Heartbeat: 100 * time.Millisecond},
	})
	require.NoError(t, err)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		require.NoError(t, r.Stop(ctx))
	})
	return &house{T: t, world: l.world, client: r.Client()}, r
}

func (l *liar) modify(r *http.Response) error {
	if strings.HasSuffix(r.Request.URL.Path, "/events") {
		r.Body = &lines{from: bufio.NewReader(r.Body), Closer: r.Body, change: l.change}
		return nil
	}
	text, err := io.ReadAll(r.Body)
	if err != nil {
		return err
	}
	text = l.change(l.reworded(r.Request.URL.Path, text))
	r.Body = io.NopCloser(bytes.NewReader(text))
	r.ContentLength = int64(len(text))
	r.Header.Set("Content-Length", fmt.Sprint(len(text)))
	return nil
}

func (l *liar) reworded(path string, text []byte) []byte {
	l.mu.Lock()
	defer l.mu.Unlock()
	var v any
	if l.instead == nil || json.Unmarshal(text, &v) != nil {
		return text
	}
	l.instead(path, v)
	out, _ := json.Marshal(v)
	return out
}

// lines changes a stream line by line.
type lines struct {
	io.Closer
	from   *bufio.Reader
	change func([]byte) []byte
	rest   []byte
}

func (s *lines) Read(p []byte) (int, error) {
	if len(s.rest) == 0 {
		line, err := s.from.ReadBytes('\n')
		if len(line) == 0 {
			return 0, err
		}
		s.rest = s.change(line)
		if len(s.rest) == 0 {
			s.rest = []byte("\n")
		}
	}
	n := copy(p, s.rest)
	s.rest = s.rest[n:]
	return n, nil
}

// change is a share of the time another text: one that is no JSON, or JSON that says something else.
func (l *liar) change(text []byte) []byte {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.random.Float64() >= l.share || len(text) == 0 {
		return text
	}
	l.lies++
	out := slices.Clone(text)
	switch l.random.IntN(4) {
	case 0:
		return out[:l.random.IntN(len(out))]
	case 1:
		for range 1 + l.random.IntN(5) {
			out[l.random.IntN(len(out))] = byte(l.random.IntN(256))
		}
		return out
	}
	var v any
	if json.Unmarshal(text, &v) != nil {
		return out
	}
	for range 1 + l.random.IntN(3) {
		v = l.another(v)
	}
	out, _ = json.Marshal(v)
	return append(out, '\n')
}

// another changes one thing somewhere in v. The caller holds the lock.
func (l *liar) another(v any) any {
	if l.random.IntN(5) > 0 {
		switch t := v.(type) {
		case map[string]any:
			if len(t) == 0 {
				break
			}
			key := slices.Sorted(maps.Keys(t))[l.random.IntN(len(t))]
			if l.random.IntN(8) == 0 {
				delete(t, key)
			} else {
				t[key] = l.another(t[key])
			}
			return t
		case []any:
			if len(t) == 0 {
				break
			}
			i := l.random.IntN(len(t))
			switch l.random.IntN(8) {
			case 0:
				return slices.Delete(t, i, i+1)
			case 1:
				return append(t, t[i]) // twice the same
			}
			t[i] = l.another(t[i])
			return t
		}
	}
	return []any{
		nil, true, "", "/", "\x00", "../x", strings.Repeat("x", 10_000), 0, -1, 1e300, 1 << 62, []any{}, []any{nil}, map[string]any{},
		map[string]any{"": nil}, "9999-99-99T99:99:99Z", "sha256:", strings.Repeat("0", 64), []any{[]any{map[string]any{"Id": nil}}},
	}[l.random.IntN(19)]
}

// Whatever the engine's JSON says, the house stands: no actor fails, none is given up; and soon after the engine speaks sense
// again the mirror is the engine.
func Test_F48_FuzzedJSONFailsNoActor(t *testing.T) {
	for seed := range uint64(3) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			world := withBusybox(t)
			l := newLiar(t, world, seed)
			h, r := l.start(t)
			h.run("first")
			h.set("running=true", "virtualMachine.driver=external")
			h.settled()
			for i, share := range []float64{0.05, 0.3, 1, 0.3} {
				l.set(share)
				before := l.told()
				h.run(fmt.Sprintf("c%d", i))
				_, err := world.VolumeCreate(sim.VolumeOptions{Name: fmt.Sprintf("v%d", i), Labels: map[string]string{"a": "b"}})
				require.NoError(t, err)
				require.NoError(t, world.Tag("busybox", fmt.Sprintf("tag%d:latest", i)))
				require.NoError(t, world.Pause("first"))
				require.NoError(t, world.Unpause("first"))
				h.eventually("it lies", func() bool { return l.told() > before+10 })
				l.set(0)
				h.becomesTheEngine()
			}
			h.requireUnharmed(r)
		})
	}
}

// becomesTheEngine waits until the mirror is the engine.
func (h *house) becomesTheEngine() {
	h.Helper()
	var differs error
	for end := time.Now().Add(3 * patience); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		if differs = h.differs(); differs == nil {
			return
		}
	}
	require.NoError(h, differs)
}

// requireUnharmed: nobody failed, and none but the session, whose end each lost stream is, began anew.
func (h *house) requireUnharmed(r *supervisor.Rdd) {
	h.Helper()
	events, err := h.client.Events(h.Context(), messages.EventsRequest{})
	require.NoError(h, err)
	for _, e := range events.Events {
		if e.Type == messages.EventActorRestarted && e.Actor == "rdd/engine/session" && e.Stack == "" {
			continue
		}
		require.NotContains(h, []string{messages.EventActorFailed, messages.EventActorRestarted, messages.EventEscalated, messages.EventGaveUp,
			messages.EventQuarantined}, e.Type, "%s: %s\n%s", e.Actor, e.Message, e.Stack)
	}
	select {
	case err := <-r.Failed():
		require.NoError(h, err)
	default:
	}
}

// differs tells where the mirror is not the engine.
func (h *house) differs() error {
	truth := h.world.Snapshot()
	want := map[string]string{}
	for _, c := range truth.Containers {
		want[c.ID] = c.Name + " " + c.Status
	}
	for _, i := range truth.Images {
		for _, tag := range i.Tags {
			want[messages.ImageName(i.ID, tag)] = tag
		}
	}
	for _, v := range truth.Volumes {
		want[messages.VolumeName(v.Name)] = v.Name
	}
	for _, kind := range []string{"container", "image", "volume"} {
		for _, o := range h.list(kind) {
			var is string
			switch o := o.(type) {
			case *messages.Container:
				is = o.Status.Name + " " + string(o.Status.Status)
			case *messages.Image:
				is = o.Status.RepoTag
			case *messages.Volume:
				is = o.Status.Name
			}
			if w, ok := want[o.GetName()]; !ok || w != is {
				return fmt.Errorf("%s %s is %q, and should be %q", kind, o.GetName(), is, w)
			}
			delete(want, o.GetName())
		}
	}
	if len(want) > 0 {
		return fmt.Errorf("not mirrored: %v", want)
	}
	return nil
}

// An identity that the engine cannot have, or that nobody could ask for, leaves no ghost.
func Test_F48_AnImpossibleIdentityLeavesNoGhost(t *testing.T) {
	world := withBusybox(t)
	_, err := world.VolumeCreate(sim.VolumeOptions{Name: "data"})
	require.NoError(t, err)
	l := newLiar(t, world, 1)
	h, r := l.start(t)
	h.run("web")
	h.set("running=true", "virtualMachine.driver=external")
	h.becomesTheEngine()
	first := func(v any) map[string]any { return v.([]any)[0].(map[string]any) }
	for _, id := range []string{"9999-99-99T99:99:99Z", "../x", "a/b", " ", "/", "\x00", "sha256:", strings.Repeat("x", 10_000), strings.Repeat("Z", 64), strings.Repeat("0", 64)} {
		told := map[string]int{}
		l.say(func(path string, v any) {
			switch _, list, _ := strings.Cut(strings.TrimPrefix(path, "/"), "/"); list {
			case "containers/json":
				first(v)["Id"] = id
			case "images/json":
				first(v)["Id"] = id
			case "volumes":
				first(v.(map[string]any)["Volumes"])["Name"] = id
			default:
				return
			}
			told[path]++
		})
		h.eventually("it is told, and told again", func() bool {
			l.mu.Lock()
			defer l.mu.Unlock()
			return len(told) == 3 && min(told["/v1.41/containers/json"], told["/v1.41/images/json"], told["/v1.41/volumes"]) >= 3
		})
		l.say(nil)
		h.becomesTheEngine()
	}
	h.requireUnharmed(r)
}

// One answer that cannot be read costs its own call a retry, and nothing else.
func Test_F48_OneUnreadableAnswerCostsOneRetry(t *testing.T) {
	for _, op := range []string{sim.OpInspectContainer, sim.OpListContainers, sim.OpListImages, sim.OpInspectImage, sim.OpListVolumes, sim.OpInfo, sim.OpEvents} {
		for _, how := range []sim.Corruption{sim.Garbage, sim.Truncated} {
			t.Run(op+"/"+string(how), func(t *testing.T) {
				world := sim.New(sim.Options{})
				_, err := world.Import("busybox:latest", "")
				require.NoError(t, err)
				world.Faults().Corrupt(op, "", 2, how)
				r, err := supervisor.Start(t.Context(), supervisor.Config{
					Dialer: world.Dialer(), Drivers: map[string]vmdriver.Driver{messages.DriverExternal: place{world}},
				})
				require.NoError(t, err)
				t.Cleanup(func() {
					ctx, cancel := context.WithTimeout(context.Background(), patience)
					defer cancel()
					require.NoError(t, r.Stop(ctx))
					world.Close()
				})
				h := &house{T: t, world: world, client: r.Client()}
				h.run("web")
				h.set("running=true", "virtualMachine.driver=external")
				h.settled()
				h.becomesTheEngine()
				world.Faults().CorruptStreams(how)
				h.run("later")
				h.becomesTheEngine()
				h.requireUnharmed(r)
			})
		}
	}
}
