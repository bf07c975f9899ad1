package external

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/rdd-desktop/rdd/messages"
)

// The Docker configuration is read as the docker command reads it, and never written.

// configDir is the directory of the Docker configuration; empty without one.
func (d *Driver) configDir() string {
	if dir := d.config.Getenv("DOCKER_CONFIG"); dir != "" {
		return dir
	}
	if d.config.Home == "" {
		return ""
	}
	return filepath.Join(d.config.Home, ".docker")
}

// contextName is the name of the context in force, and who says so.
func (d *Driver) contextName() (name, source string, err error) {
	if name := d.config.Getenv("DOCKER_CONTEXT"); name != "" {
		return name, fmt.Sprintf("context %q (DOCKER_CONTEXT)", name), nil
	}
	dir := d.configDir()
	if dir == "" {
		return "", "", nil
	}
	var config struct {
		CurrentContext string `json:"currentContext"`
	}
	path := filepath.Join(dir, "config.json")
	if err := readJSON(path, &config); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", "", fmt.Errorf("the Docker configuration tells no context: %w", err)
	}
	return config.CurrentContext, fmt.Sprintf("context %q", config.CurrentContext), nil
}

// context reads one context of the store.
func (d *Driver) context(name, source string) (messages.Endpoint, error) {
	dir := d.configDir()
	if dir == "" {
		return messages.Endpoint{}, fmt.Errorf("%s: there is no Docker configuration", source)
	}
	sum := sha256.Sum256([]byte(name))
	id := hex.EncodeToString(sum[:])
	var meta struct {
		Endpoints map[string]struct {
			Host          string
			SkipTLSVerify bool
		}
	}
	path := filepath.Join(dir, "contexts", "meta", id, "meta.json")
	if err := readJSON(path, &meta); errors.Is(err, fs.ErrNotExist) {
		return messages.Endpoint{}, fmt.Errorf("%s: there is no such context in %s (docker context ls)", source, dir)
	} else if err != nil {
		return messages.Endpoint{}, fmt.Errorf("%s: %w", source, err)
	}
	docker, ok := meta.Endpoints["docker"]
	if !ok || docker.Host == "" {
		return messages.Endpoint{}, fmt.Errorf("%s: %s names no Docker engine", source, path)
	}
	files := tlsFiles(filepath.Join(dir, "contexts", "tls", id, "docker"))
	files.SkipVerify = docker.SkipTLSVerify
	at := messages.Endpoint{Host: docker.Host, Source: source}
	if files != (messages.EndpointTLS{}) {
		at.TLS = &files
	}
	return at, nil
}

// environmentTLS is what DOCKER_TLS, DOCKER_TLS_VERIFY and DOCKER_CERT_PATH say; they go with DOCKER_HOST only.
func (d *Driver) environmentTLS() *messages.EndpointTLS {
	verify := d.config.Getenv("DOCKER_TLS_VERIFY") != ""
	if !verify && d.config.Getenv("DOCKER_TLS") == "" {
		return nil
	}
	dir := d.config.Getenv("DOCKER_CERT_PATH")
	if dir == "" {
		dir = d.configDir()
	}
	files := tlsFiles(dir)
	files.SkipVerify = !verify
	return &files
}

// tlsFiles names those of Docker's three files that are there.
func tlsFiles(dir string) messages.EndpointTLS {
	file := func(name string) string {
		path := filepath.Join(dir, name)
		if _, err := os.Stat(path); err != nil {
			return ""
		}
		return path
	}
	return messages.EndpointTLS{CAFile: file("ca.pem"), CertFile: file("cert.pem"), KeyFile: file("key.pem")}
}

// readJSON reads a file that somebody else writes.
func readJSON(path string, into any) error {
	content, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(content, into); err != nil {
		return fmt.Errorf("%s is not valid JSON: %w", path, err)
	}
	return nil
}
