package main

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/rdd-desktop/rdd/messages"
)

func TestParsePairs(t *testing.T) {
	for in, want := range map[string]string{
		"container web a=b":               "container/web | a=b",
		"co/web co/job a=b c-":            "container/web container/job | a=b c-",
		"volume a b x=y=z":                "volume/a volume/b | x=y=z",
		"volume odd- a-":                  "volume/odd- | a-", // the first name is one, whatever it looks like
		"volume/odd- a=":                  "volume/odd- | a=",
		"image ghcr.io/a/b:1 example/k=v": "image/ghcr.io/a/b:1 | example/k=v",
	} {
		targets, pairs, err := parsePairs(strings.Fields(in), "labels")
		require.NoError(t, err, in)
		var got []string
		for _, x := range targets {
			got = append(got, x.String())
		}
		got = append(got, "|")
		for _, a := range strings.Fields(in)[len(targets):] {
			key, value, set := strings.Cut(a, "=")
			if set && pairs[key] != nil && *pairs[key] == value {
				got = append(got, a)
			} else if v, known := pairs[strings.TrimSuffix(a, "-")]; !set && known && v == nil {
				got = append(got, a)
			}
		}
		require.Equal(t, want, strings.Join(got, " "), in)
	}
	for _, in := range []string{"", "container", "container web", "container/web", "a=b", "container web a=b job", "container web a=b a=c", "container web =", "container web a=b -"} {
		_, _, err := parsePairs(strings.Fields(in), "labels")
		require.ErrorIs(t, err, messages.ErrBadRequest, in)
	}
}

func TestParseDocuments(t *testing.T) {
	const version = "apiVersion: containers.rancherdesktop.io/v1alpha1\n"
	found, err := parseDocuments([]byte("---\n" + version + `kind: Container
metadata: {name: web, uid: u, resourceVersion: "7", generation: 3, creationTimestamp: null, labels: {a: b}}
spec: {state: running}
status: {status: exited}
---
# nothing
---
{"kind": "List", "items": [{"apiVersion": "containers.rancherdesktop.io/v1alpha1", "kind": "Volume", "metadata": {"name": "data"}}]}
`))
	require.NoError(t, err)
	require.Len(t, found, 2)
	require.Equal(t, "container/web", found[0].target.String())
	require.JSONEq(t, `{"metadata":{"uid":"u","resourceVersion":"7","labels":{"a":"b"}},"spec":{"state":"running"}}`, string(found[0].patch),
		"what the daemon writes says nothing, but for what it is compared by")
	require.Equal(t, "volume/data", found[1].target.String())
	for in, code := range map[string]messages.Code{
		"kind: Pod":                            messages.CodeBadRequest,
		"just a word":                          messages.CodeBadRequest,
		"kind: {":                              messages.CodeBadRequest,
		"{\"kind\": \"List\", \"items\": [1]}": messages.CodeBadRequest,
		"kind: Volume\nmetadata: {name: a}":    messages.CodeInvalid,
		version + "kind: Volume":               messages.CodeInvalid,
		version + "kind: Volume\nmetadata: {name: a}\n---\nkind: x": messages.CodeBadRequest,
	} {
		_, err := parseDocuments([]byte(in))
		require.Equal(t, code, messages.AsError(err).Code, in)
	}
}

// What becomes of the receipt that somebody waits for.
func TestReceiptOfAnAction(t *testing.T) {
	at := metav1.NewMicroTime(time.Unix(1_900_000_000, 0))
	asked := messages.ActionReceipt{ID: "1", Action: messages.ActionStop, State: messages.ActionPending, RequestedAt: at}
	web := container("web", "running", 0)
	for _, tc := range []struct {
		name     string
		last     *messages.ActionReceipt
		event    messages.WatchEvent
		state    string
		replaced bool
		code     int
	}{
		{"goes on", &asked, messages.WatchEvent{Type: messages.Modified}, messages.ActionPending, false, 0},
		{"succeeded", &messages.ActionReceipt{ID: "1", Action: "stop", State: messages.ActionSucceeded}, messages.WatchEvent{Type: messages.Modified},
			messages.ActionSucceeded, false, 0},
		{"failed", &messages.ActionReceipt{ID: "1", Action: "stop", State: messages.ActionFailed, Error: "stop: no"}, messages.WatchEvent{Type: messages.Modified},
			messages.ActionFailed, false, 9},
		{"superseded", &messages.ActionReceipt{ID: "1", Action: "stop", State: messages.ActionSuperseded}, messages.WatchEvent{Type: messages.Modified},
			messages.ActionSuperseded, false, 3},
		{"a newer one", &messages.ActionReceipt{ID: "2", Action: "start", State: messages.ActionPending}, messages.WatchEvent{Type: messages.Modified},
			messages.ActionSuperseded, true, 3},
		{"not told yet", nil, messages.WatchEvent{Type: messages.Added}, messages.ActionPending, false, 0},
		{"the mirror went", &asked, messages.WatchEvent{Type: messages.Deleted, Reason: messages.ReasonMirrorReset}, messages.ActionSuperseded, true, 3},
		{"the container went", &asked, messages.WatchEvent{Type: messages.Deleted}, messages.ActionPending, false, 0},
	} {
		receipt, replaced := receiptNow(asked, asked, tc.event, tc.last)
		require.Equal(t, tc.state, receipt.State, tc.name)
		require.Equal(t, tc.replaced, replaced, tc.name)
		require.Equal(t, tc.code, exitCode(receiptError(web, receipt)), tc.name)
		require.Equal(t, "1", receipt.ID, "%s: it is the one that was asked for", tc.name)
	}
	require.EqualError(t, receiptError(web, messages.ActionReceipt{Action: "stop", State: messages.ActionFailed, Error: "stop: no"}),
		`stop container "web": no`, "the verb is said once")
}

// The column INTENT: what is wanted, why it is not so, and the star with its note below the table.
func TestIntentInTables(t *testing.T) {
	of := func(name, state string, conditions ...string) messages.Object {
		c := container(name, "exited", 0)
		c.Spec.State = state
		for _, text := range conditions {
			f := strings.Split(text, "/")
			c.Status.ConditionList = append(c.Status.ConditionList, metav1.Condition{Type: f[0], Status: metav1.ConditionStatus(f[1]), Reason: f[2], Message: f[3]})
		}
		return c
	}
	items := []messages.Object{
		of("a", messages.StateUnknown), of("b", messages.StateRunning), of("c", messages.StateRunning, "IntentApplied/False/Retrying/x"),
		of("d", messages.StatePaused, "IntentApplied/False/Failed/x"), of("e", messages.StateRunning, "IntentApplied/True/Applied/x"),
		of("f", messages.StateRunning, "IntentApplied/True/Applied/x", "Drifted/True/Drifted/it is exited now"),
		of("g", messages.StateCreated, "Drifted/True/Drifted/"),
	}
	var b bytes.Buffer
	p, err := newPrinter(&b, printOptions{})
	require.NoError(t, err)
	require.NoError(t, p.list(listing{items: items}))
	lines := strings.Split(strings.TrimSuffix(b.String(), "\n"), "\n")
	require.Len(t, lines, 10)
	at := strings.Index(lines[0], "INTENT")
	for i, want := range []string{"-", "running", "running(Retrying)", "paused(Failed)", "running", "running*", "created*"} {
		require.Equal(t, want, strings.Fields(lines[i+1][at:])[0])
	}
	require.Equal(t, []string{"* f: it is exited now (drift)", "* g: changed outside rdd (drift)"}, lines[8:])
	b.Reset()
	p, err = newPrinter(&b, printOptions{noHeaders: true})
	require.NoError(t, err)
	require.NoError(t, p.list(listing{items: items}))
	require.Equal(t, 7, strings.Count(b.String(), "\n"), "without headers there are rows alone")
}
