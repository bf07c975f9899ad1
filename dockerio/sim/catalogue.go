package sim

import (
	"crypto/sha256"
	"encoding/hex"
)

// catalogue is what docker pull finds without a registry: names people type, with the configuration of the real ones as far as it
// shows.
var catalogue = []ImageOptions{
	{Tag: "alpine:latest", Size: 7_800_000, Config: ImageConfig{Cmd: []string{"/bin/sh"}, Env: []string{searchPath}}},
	{Tag: "busybox:latest", Size: 4_300_000, Config: ImageConfig{Cmd: []string{"sh"}, Env: []string{searchPath}}},
	{Tag: "debian:latest", Size: 117_000_000, Config: ImageConfig{Cmd: []string{"bash"}, Env: []string{searchPath}}},
	{Tag: "hello-world:latest", Size: 13_300, Config: ImageConfig{Cmd: []string{"echo", "Hello from a simulated Docker!"}, Env: []string{searchPath}}},
	{Tag: "nginx:latest", Size: 192_000_000, Config: ImageConfig{
		Entrypoint: []string{"/docker-entrypoint.sh"}, Cmd: []string{"nginx", "-g", "daemon off;"}, Env: []string{searchPath},
		ExposedPorts: map[string]struct{}{"80/tcp": {}}, StopSignal: "SIGQUIT",
	}},
	{Tag: "postgres:latest", Size: 438_000_000, Config: ImageConfig{
		Entrypoint: []string{"docker-entrypoint.sh"}, Cmd: []string{"postgres"}, Env: []string{searchPath, "PGDATA=/var/lib/postgresql/data"},
		ExposedPorts: map[string]struct{}{"5432/tcp": {}}, Volumes: map[string]struct{}{"/var/lib/postgresql/data": {}}, StopSignal: "SIGINT",
	}},
	{Tag: "redis:latest", Size: 117_000_000, Config: ImageConfig{
		Entrypoint: []string{"docker-entrypoint.sh"}, Cmd: []string{"redis-server"}, Env: []string{searchPath},
		ExposedPorts: map[string]struct{}{"6379/tcp": {}}, Volumes: map[string]struct{}{"/data": {}}, WorkingDir: "/data",
	}},
}

const searchPath = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// PublishCatalogue puts a few well-known images into the registry Pull pulls from. They are the same in every engine.
func (e *Engine) PublishCatalogue() {
	for _, o := range catalogue {
		sum := sha256.Sum256([]byte("catalogue " + o.Tag))
		o.ID = "sha256:" + hex.EncodeToString(sum[:])
		e.Publish(o)
	}
}
