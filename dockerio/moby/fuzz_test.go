package moby_test

import (
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/rdd-desktop/rdd/dockerio"
	"github.com/rdd-desktop/rdd/dockerio/moby"
	"github.com/rdd-desktop/rdd/messages"
)

// parrot is an engine that answers everything but a ping with the same bytes.
func parrot(f *testing.F) (e dockerio.Engine, say func(status int, body []byte)) {
	type words struct {
		status int
		body   []byte
	}
	var now atomic.Pointer[words]
	dir, err := os.MkdirTemp("", "moby")
	require.NoError(f, err)
	l, err := net.Listen("unix", filepath.Join(dir, "d.sock"))
	require.NoError(f, err)
	s := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Api-Version", "1.41")
		if strings.HasSuffix(r.URL.Path, "/_ping") {
			return
		}
		said := now.Load()
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(said.status)
		_, _ = w.Write(said.body)
	})}
	served := make(chan error, 1)
	go func() { served <- s.Serve(l) }()
	e, err = moby.Dialer{}.Dial(f.Context(), messages.Endpoint{Host: "unix://" + l.Addr().String()})
	require.NoError(f, err)
	f.Cleanup(func() {
		require.NoError(f, e.Close())
		require.NoError(f, s.Close())
		require.ErrorIs(f, <-served, http.ErrServerClosed)
		require.NoError(f, os.RemoveAll(dir))
	})
	return e, func(status int, body []byte) { now.Store(&words{status, body}) }
}

// Whatever an engine answers, each call ends with an object that has an identity, or with an error that has a class.
func FuzzEngineJSON(f *testing.F) {
	for _, s := range []string{
		`{"Id":"a","State":{"Status":"running","Health":{"Status":"none"}},"NetworkSettings":{"Ports":{"80/tcp":[{"HostIp":"::","HostPort":"1"}],"9":null},"Networks":{"n":null}}}`,
		`{"Id":"a","State":{},"Config":{"ExposedPorts":{"":{},"1":{}},"Labels":{"a":"b"}},"HostConfig":{}}`,
		`[{"Id":"a","Names":["/x/y","/x"],"Created":-1,"Status":"Exited (99999999999999999999)","Mounts":[{}],"RepoTags":["<none>:<none>",""],"RepoDigests":null}]`,
		`[null,{}]`, `{"Volumes":[null]}`, `{"Volumes":[{"Name":"v","CreatedAt":"x","UsageData":null}]}`, `{"Name":"v","CreatedAt":"0001-01-01T00:00:00Z"}`,
		`{"ID":"x","ServerVersion":"1","SystemTime":"9999-99-99T99:99:99Z"}`, `{"Id":"a","Created":"","Config":null,"Metadata":{"LastTagTime":"2024-05-01T10:00:00Z"}}`,
		`{"Type":"container","Action":"health_status: x","Actor":{"ID":"a","Attributes":{"exitCode":"x"}},"time":1,"timeNano":-1}{"Type":7}`,
		"{\"Type\":\"image\",\"Action\":\"tag\"}\n{\"Type\"", `{"message":"no"}`, `null`, ``, `[[[[`, `{"Id":1e999}`,
	} {
		f.Add(200, []byte(s))
	}
	f.Add(404, []byte(`{"message":"No such container: a"}`))
	f.Add(500, []byte("\xff"))
	e, say := parrot(f)
	f.Fuzz(func(t *testing.T, status int, body []byte) {
		if status < 200 || status > 599 || status == http.StatusNoContent || status == http.StatusNotModified {
			t.Skip("this is no status of an answer with a body")
		}
		say(status, body)
		failed := func(err error) bool {
			if err != nil {
				require.ErrorAs(t, err, new(*messages.Error))
				require.NotEmpty(t, messages.ClassOf(err))
			}
			return err != nil
		}
		ctx := t.Context()
		if i, err := e.Info(ctx); !failed(err) {
			require.NotEmpty(t, i.ID)
		}
		if c, err := e.InspectContainer(ctx, "a"); !failed(err) {
			require.NotEmpty(t, c.ID)
			require.NotEmpty(t, c.Status)
		}
		if i, err := e.InspectImage(ctx, "a"); !failed(err) {
			require.NotEmpty(t, i.ID)
		}
		if v, err := e.InspectVolume(ctx, "a"); !failed(err) {
			require.NotEmpty(t, v.Name)
		}
		containers, err := e.ListContainers(ctx)
		failed(err)
		for _, c := range containers[:min(3, len(containers))] {
			_, err := e.InspectContainer(ctx, c.ID)
			require.NotErrorIs(t, err, messages.ErrInvalid, "what is listed can be asked for")
		}
		images, err := e.ListImages(ctx)
		failed(err)
		for _, i := range images[:min(3, len(images))] {
			_, err := e.InspectImage(ctx, i.ID)
			require.NotErrorIs(t, err, messages.ErrInvalid, "what is listed can be asked for")
		}
		volumes, err := e.ListVolumes(ctx)
		failed(err)
		for _, v := range volumes[:min(3, len(volumes))] {
			_, err := e.InspectVolume(ctx, v.Name)
			require.NotErrorIs(t, err, messages.ErrInvalid, "what is listed can be asked for")
		}
		s, err := e.Events(ctx, dockerio.Time{})
		if failed(err) {
			return
		}
		for err == nil {
			_, err = s.Next()
		}
		require.True(t, errors.Is(err, io.EOF) || failed(err))
		require.NoError(t, s.Close())
	})
}
