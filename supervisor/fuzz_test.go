package supervisor

import (
	"context"
	"encoding/json"
	"log/slog"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"

	"github.com/rdd-desktop/rdd/messages"
)

// fuzzWorld is a backend with a little of everything, whose operations answer at once.
func fuzzWorld(f *testing.F) *world {
	w := newWorld(f, 1)
	for n := range 5 {
		w.put(container(hexID(n), "web"))
	}
	w.put(volume("v"))
	w.put(appObject(1))
	w.b.hold = 0
	w.b.core = Core{
		Table: w.table,
		Set: func(_ context.Context, r messages.SetRequest) (*messages.SetReply, error) {
			if !json.Valid(r.Patch) {
				return nil, messages.NewError(messages.CodeInvalid, "set", "App", "app", "no JSON")
			}
			return &messages.SetReply{App: appObject(r.IfGeneration)}, nil
		},
		Delete: func(_ context.Context, _ messages.Kind, o messages.Object, _ string, _ messages.DeleteRequest) (messages.Object, error) {
			return o, nil
		},
		Tree: func() messages.TreeNode { return messages.TreeNode{Path: "rdd"} },
		Events: func(_ context.Context, r messages.EventsRequest) (messages.EventsReply, error) {
			return messages.EventsReply{Next: r.Since}, nil
		},
		Version: func(context.Context) (*messages.VersionReply, error) { return &messages.VersionReply{}, nil },
		Debug: func(_ context.Context, r messages.DebugRequest) (*messages.DebugReply, error) {
			return &messages.DebugReply{Armed: r.Actor}, nil
		},
		Shutdown: func(context.Context, messages.ShutdownRequest) (*messages.ShutdownReply, error) {
			return &messages.ShutdownReply{PID: 1}, nil
		},
	}
	return w
}

// Whatever a request says, it has one answer that a client can read: an error with a code, or what its kind promises; and
// no request makes the gateway panic.
func FuzzRequest(f *testing.F) {
	bodies := map[string][]string{
		messages.OpGet:    {`{"kind":"container","name":"web"}`, `{"kind":"volume","name":"v"}`},
		messages.OpList:   {`{"kind":"containers","limit":2}`, `{"kind":"x"}`, `{"kind":"container","selector":{"labels":"a in (b","fields":"status.name=web"}}`},
		messages.OpNext:   {`{"kind":"container","cursor":"1","max":1}`, `{"kind":"container","cursor":"-1"}`},
		messages.OpSet:    {`{"patch":{"running":true},"ifGeneration":3}`, `{"patch":null}`},
		messages.OpDelete: {`{"kind":"volume","name":"v","uid":"x"}`},
		messages.OpEvents: {`{"since":9,"wait":true}`},
		messages.OpDebug:  {`{"actor":"rdd","action":"delay","delay":"1h"}`},
	}
	for _, kind := range append(Operations(), "later", "") {
		for _, body := range append(bodies[kind], ``, `{}`, `null`, `[]`, `{"kind":7}`) {
			f.Add(uint32(messages.WireVersion), kind, []byte(body))
		}
	}
	f.Add(uint32(2), messages.OpGet, []byte(`{}`))
	w := fuzzWorld(f)
	log := slog.New(slog.DiscardHandler)
	f.Fuzz(func(t *testing.T, version uint32, kind string, body []byte) {
		r := &messages.Request{Version: version, Id: "7", Kind: kind, Body: body}
		var a proto.Message
		if err := validate(r); err != nil {
			require.True(t, messages.AsError(err).Code == messages.CodeUnsupported || messages.AsError(err).Code == messages.CodeBadRequest)
			a = refusal(r.Id, err)
		} else {
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			defer cancel()
			a = (&call{request: r, ctx: ctx, cancel: cancel}).run(t.Context(), w.b, log)
		}
		requireReadable(t, kind, a)
	})
}

// requireReadable decodes an answer as the client of that operation does.
func requireReadable(t *testing.T, kind string, a proto.Message) {
	data, err := proto.Marshal(a)
	require.NoError(t, err)
	var id, got string
	if _, ok := a.(*messages.Frame); ok {
		m := &messages.Frame{}
		require.NoError(t, proto.Unmarshal(data, m))
		a, id, got = m, m.Id, m.Kind
	} else {
		m := &messages.Reply{}
		require.NoError(t, proto.Unmarshal(data, m))
		a, id, got = m, m.Id, m.Kind
	}
	require.Equal(t, "7", id)
	switch kind {
	case messages.OpGet, messages.OpDelete:
		_, err = decodeAnswer[resource](kind, a)
	case messages.OpList:
		_, err = decodeAnswer[*messages.ListReply](kind, a)
	case messages.OpNext:
		_, err = decodeAnswer[*messages.Batch](kind, a)
	case messages.OpSet:
		_, err = decodeAnswer[*messages.SetReply](kind, a)
	default:
		_, err = decodeAnswer[map[string]any](kind, a)
	}
	if got != messages.OpError {
		require.NoError(t, err, "%s", a)
		return
	}
	require.NotEmpty(t, messages.AsError(err).Code)
	require.NotErrorIs(t, err, &messages.Error{Code: messages.CodeInternal}, "a panic, or an answer that cannot be read")
}

// Whatever a continue token or a resource version says, a list goes on behind it in order and comes to its end, a pull never
// goes back; or it is a bad request, or gone.
func FuzzCursors(f *testing.F) {
	for _, s := range []string{"", ":", "x:y", "1", "0", "007", "-1", "18446744073709551615", "99999999999999999999", "1:", ":" + hexID(2), "a:b:c"} {
		f.Add(s, hexID(1))
	}
	w := fuzzWorld(f)
	refused := func(t *testing.T, err error) {
		code := messages.AsError(err).Code
		require.True(t, code == messages.CodeBadRequest || code == messages.CodeGone, "%v", err)
	}
	f.Fuzz(func(t *testing.T, token, after string) {
		_, err := w.b.list(t.Context(), messages.ListRequest{Kind: "container", Continue: token, Limit: 2})
		if token != "" {
			refused(t, err) // nobody can guess the name of a list
		}
		first, err := w.b.list(t.Context(), messages.ListRequest{Kind: "container", Limit: 1})
		require.NoError(t, err)
		list, _, _, err := w.b.page(first.Continue)
		require.NoError(t, err)
		id := w.b.pin("", list)
		names, next := []string{after}, id+":"+after
		for next != "" {
			page, err := w.b.list(t.Context(), messages.ListRequest{Kind: "container", Limit: 1, Continue: next})
			require.NoError(t, err)
			require.Equal(t, first.ResourceVersion, page.ResourceVersion)
			for _, o := range page.Items {
				require.Greater(t, o.GetName(), names[len(names)-1])
				names = append(names, o.GetName())
			}
			next = page.Continue
		}
		require.LessOrEqual(t, len(names), 6)
		require.LessOrEqual(t, len(w.b.pins), maxPins)
		batch, err := w.b.next(t.Context(), messages.NextRequest{Kind: "container", Cursor: token})
		if err != nil {
			refused(t, err)
			return
		}
		from, err := parseVersion(token)
		require.NoError(t, err)
		to, err := parseVersion(batch.Cursor)
		require.NoError(t, err)
		require.GreaterOrEqual(t, to, from)
		require.Equal(t, token, batch.Since)
	})
}

// Whatever --for says, it is refused as a bad request, or it judges each resource without a crash.
func FuzzParseFor(f *testing.F) {
	for _, s := range []string{
		"delete", "CREATE", "condition=Ready", "condition=Ready=False", `condition=Ready="`, "jsonpath={.status.status}=exited", `jsonpath='{.status.name}'=web`,
		`jsonpath="{.a=b}"`, "jsonpath=.metadata.labels['a=b']=c", "jsonpath={..name}", "jsonpath='", "jsonpath=''", "jsonpath={.status.args[0:9:0]}", "jsonpath={.x[?(@.y=='z')].w}=1", "condition==",
	} {
		f.Add(s)
	}
	objects := messages.Objects{with(container(hexID(1), "web"), condition("Ready", "True", "X", 1)), volume("v"), image("sha256:1", "a:b"), appObject(3)}
	objects[0].(*messages.Container).Status.Args = []string{"a", "b"}
	f.Fuzz(func(t *testing.T, text string) {
		w, err := ParseFor(text)
		if err != nil {
			require.ErrorIs(t, err, messages.ErrBadRequest)
			return
		}
		require.Equal(t, text, w.String())
		for _, o := range objects {
			met, err := w.met(o)
			if err != nil {
				require.ErrorIs(t, err, messages.ErrBadRequest)
				require.False(t, met)
			}
			if c := w.failed(o); c != nil {
				require.False(t, met)
			}
		}
	})
}
