package supervisor

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"google.golang.org/protobuf/proto"

	"github.com/rdd-desktop/rdd/messages"
)

// maxRequestBody is the most bytes of one request.
const maxRequestBody = 1 << 20

// serve decodes the body of a request, runs it and encodes the answer.
type serve func(ctx context.Context, b backend, body []byte) ([]byte, error)

// operations is every operation this daemon knows, by its kind on the wire.
var operations = map[string]serve{
	messages.OpGet:      one(backend.get),
	messages.OpList:     serveList,
	messages.OpNext:     serveNext,
	messages.OpSet:      one(backend.set),
	messages.OpDelete:   one(backend.delete),
	messages.OpWrite:    one(backend.write),
	messages.OpAction:   one(backend.action),
	messages.OpTree:     one(backend.tree),
	messages.OpEvents:   one(backend.events),
	messages.OpVersion:  one(backend.version),
	messages.OpDebug:    one(backend.debug),
	messages.OpShutdown: one(backend.shutdown),
}

// Operations are the names of the operations of this version, sorted; they stand in VersionReply.
func Operations() []string {
	var out []string
	for name := range operations {
		out = append(out, name)
	}
	slices.Sort(out)
	return out
}

// WireVersions are the versions of the envelope this daemon speaks; they stand in VersionReply.
func WireVersions() []int { return []int{messages.WireVersion} }

func one[Q, A any](op func(backend, context.Context, Q) (A, error)) serve {
	return func(ctx context.Context, b backend, body []byte) ([]byte, error) {
		var q Q
		if err := decodeRequest(body, &q); err != nil {
			return nil, err
		}
		a, err := op(b, ctx, q)
		if err != nil {
			return nil, err
		}
		return json.Marshal(a)
	}
}

func decodeRequest(body []byte, q any) error {
	if len(body) == 0 {
		return nil
	}
	if err := json.Unmarshal(body, q); err != nil {
		return messages.WrapError(messages.CodeBadRequest, "decode", "request", "", err)
	}
	return nil
}

// framer is a backend that fills a frame while it encodes it, so that pages hold MaxFrameBytes.
type framer interface {
	listInto(context.Context, messages.ListRequest, *frame) (*messages.ListReply, error)
	nextInto(context.Context, messages.NextRequest, *frame) (*messages.Batch, error)
}

func serveList(ctx context.Context, b backend, body []byte) ([]byte, error) {
	f, ok := b.(framer)
	if !ok {
		return one(backend.list)(ctx, b, body)
	}
	var q messages.ListRequest
	if err := decodeRequest(body, &q); err != nil {
		return nil, err
	}
	page := newFrame(q.Limit, true)
	a, err := f.listInto(ctx, q, page)
	if err != nil {
		return nil, err
	}
	if page.raw == nil {
		page.raw = []json.RawMessage{}
	}
	return json.Marshal(struct {
		ResourceVersion string            `json:"resourceVersion"`
		Continue        string            `json:"continue,omitempty"`
		Items           []json.RawMessage `json:"items"`
	}{a.ResourceVersion, a.Continue, page.raw})
}

func serveNext(ctx context.Context, b backend, body []byte) ([]byte, error) {
	f, ok := b.(framer)
	if !ok {
		return one(backend.next)(ctx, b, body)
	}
	var q messages.NextRequest
	if err := decodeRequest(body, &q); err != nil {
		return nil, err
	}
	page := newFrame(q.Max, true)
	a, err := f.nextInto(ctx, q, page)
	if err != nil {
		return nil, err
	}
	type event struct {
		Type    messages.WatchEventType `json:"type"`
		Reason  string                  `json:"reason,omitempty"`
		Version string                  `json:"version,omitempty"`
		Object  json.RawMessage         `json:"object"`
	}
	out := struct {
		Since  string  `json:"since"`
		Cursor string  `json:"cursor"`
		Events []event `json:"events,omitempty"`
	}{Since: a.Since, Cursor: a.Cursor}
	for i, e := range a.Events {
		out.Events = append(out.Events, event{e.Type, e.Reason, e.Version, page.raw[i]})
	}
	return json.Marshal(out)
}

// answer makes the message that answers r. A pull is answered by a Frame, everything else and every error by a Reply.
func answer(r *messages.Request, body []byte, err error) proto.Message {
	if err != nil {
		return refusal(r.Id, err)
	}
	if r.Kind == messages.OpNext {
		return &messages.Frame{Version: messages.WireVersion, Id: r.Id, Kind: r.Kind, Body: body}
	}
	return &messages.Reply{Version: messages.WireVersion, Id: r.Id, Kind: r.Kind, Body: body}
}

func refusal(id string, err error) *messages.Reply {
	e := messages.AsError(err)
	if e.Code == messages.CodeTimeout && e.Message == "" {
		e = messages.NewError(messages.CodeTimeout, e.Verb, e.Kind, e.Name, "the daemon did not get it done in time")
	}
	body, encodeErr := json.Marshal(e)
	if encodeErr != nil {
		body = []byte(`{"class":"Permanent","code":"Internal","message":"the error could not be encoded"}`)
	}
	return &messages.Reply{Version: messages.WireVersion, Id: id, Kind: messages.OpError, Body: body}
}

func decodeError(body []byte) error {
	e := &messages.Error{}
	if err := json.Unmarshal(body, e); err != nil || e.Code == "" {
		return messages.NewError(messages.CodeInternal, "", "", "", "an error that cannot be read: "+string(body[:min(len(body), 200)]))
	}
	return e
}

// validate refuses what this daemon does not know. Error: Unsupported (naming what it does know), BadRequest.
func validate(r *messages.Request) error {
	if r.Version != messages.WireVersion {
		return unsupported(fmt.Sprintf("wire version %d is not spoken here", r.Version))
	}
	if _, ok := operations[r.Kind]; !ok {
		return unsupported(fmt.Sprintf("operation %q is not known here", r.Kind))
	}
	if len(r.Body) > maxRequestBody {
		return messages.NewError(messages.CodeBadRequest, "", "", "", fmt.Sprintf("a request has %d bytes, at most %d are taken", len(r.Body), maxRequestBody))
	}
	return nil
}

func unsupported(why string) error {
	e := messages.NewError(messages.CodeUnsupported, "", "", "", fmt.Sprintf("%s (wire versions %s; operations %s)",
		why, versionList(WireVersions()), strings.Join(Operations(), " ")))
	e.Details = map[string]string{"wireVersions": versionList(WireVersions()), "operations": strings.Join(Operations(), ",")}
	return e
}

// unsupportedVersions is the client's word on a daemon it has no common version with.
func unsupportedVersions(daemon []int) error {
	e := messages.NewError(messages.CodeUnsupported, "", "", "", fmt.Sprintf("the daemon speaks wire versions %s, this client %s",
		versionList(daemon), versionList(WireVersions())))
	e.Details = map[string]string{"wireVersions": versionList(daemon), "clientWireVersions": versionList(WireVersions())}
	return e
}

func versionList(v []int) string {
	return strings.Trim(strings.ReplaceAll(fmt.Sprint(v), " ", ","), "[]")
}
