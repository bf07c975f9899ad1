package server_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rdd-desktop/rdd/dockerio/moby"
	"github.com/rdd-desktop/rdd/dockerio/sim"
	"github.com/rdd-desktop/rdd/messages"
)

// The docker command names Docker's own registry in full; the answers use the short names.
func TestPullFromTheCatalogue(t *testing.T) {
	engine := sim.New(sim.Options{})
	engine.PublishCatalogue()
	socket := serve(t, engine)
	transport := &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", socket)
	}}
	pull := func() string {
		request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://engine/v1.41/images/create?fromImage=docker.io%2Flibrary%2Fnginx&tag=latest", nil)
		require.NoError(t, err)
		response, err := transport.RoundTrip(request)
		require.NoError(t, err)
		said, err := io.ReadAll(response.Body)
		require.NoError(t, err)
		require.NoError(t, response.Body.Close())
		require.Equal(t, http.StatusOK, response.StatusCode, string(said))
		return string(said)
	}
	first := pull()
	require.Contains(t, first, "Pulling from library/nginx")
	require.Contains(t, first, `"status":"Downloading"`)
	require.Contains(t, first, "Digest: sha256:")
	require.Contains(t, first, "Status: Downloaded newer image for nginx:latest")
	again := pull()
	require.Contains(t, again, "Status: Image is up to date for nginx:latest")
	require.NotContains(t, again, "Downloading")
	image, err := engine.ImageByRef("nginx")
	require.NoError(t, err)
	require.Equal(t, []string{"nginx:latest"}, image.Tags)
}

// Who does not read the stream loses events and makes each call that has one wait, as on a real engine; others are answered.
func TestASlowReader(t *testing.T) {
	const stall = time.Millisecond
	engine := sim.New(sim.Options{Buffer: 8, Stall: stall})
	socket := serve(t, engine)
	connection, err := net.Dial("unix", socket)
	require.NoError(t, err)
	defer func() { require.NoError(t, connection.Close()) }()
	_, err = io.WriteString(connection, "GET /v1.41/events HTTP/1.1\r\nHost: engine\r\n\r\n")
	require.NoError(t, err)
	require.Eventually(t, func() bool { return engine.Streams() == 1 }, 10*time.Second, time.Millisecond)
	const most = 100_000 // far more than a socket holds
	var last time.Duration
	for i := 0; engine.Lost() == 0; i++ {
		require.Less(t, i, most)
		began := time.Now()
		_, err := engine.VolumeCreate(sim.VolumeOptions{Name: fmt.Sprint("v", i)})
		require.NoError(t, err)
		last = time.Since(began)
	}
	require.GreaterOrEqual(t, last, stall, "the call that lost the event waited for the reader")
	client, err := moby.Dialer{}.Dial(t.Context(), messages.Endpoint{Host: "unix://" + socket})
	require.NoError(t, err)
	defer func() { require.NoError(t, client.Close()) }()
	_, err = client.ListVolumes(t.Context())
	require.NoError(t, err)
}
