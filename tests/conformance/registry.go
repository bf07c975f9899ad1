package conformance

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
)

// PulledImage is the image that a registry of the suite has, and PulledCommand its command.
const PulledImage = "web:latest"

// PulledCommand is what containers of PulledImage run.
var PulledCommand = []string{"httpd", "-f"}

// Registry serves one small image, PulledImage, as far as a pull needs it, and returns its host.
func Registry(t *testing.T) (host string) {
	t.Helper()
	blobs := map[string][]byte{}
	put := func(content []byte) (digest string) {
		sum := sha256.Sum256(content)
		digest = "sha256:" + hex.EncodeToString(sum[:])
		blobs[digest] = content
		return digest
	}
	object := func(v any) []byte {
		encoded, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		return encoded
	}
	layer, packed := layerOf(t, "marker", "pulled")
	sum := sha256.Sum256(layer)
	config := object(map[string]any{
		"architecture": "amd64", "os": "linux", "config": map[string]any{"Cmd": PulledCommand},
		"rootfs": map[string]any{"type": "layers", "diff_ids": []string{"sha256:" + hex.EncodeToString(sum[:])}},
	})
	const docker = "application/vnd.docker."
	manifest := object(map[string]any{
		"schemaVersion": 2, "mediaType": docker + "distribution.manifest.v2+json",
		"config": map[string]any{"mediaType": docker + "container.image.v1+json", "size": len(config), "digest": put(config)},
		"layers": []any{map[string]any{"mediaType": docker + "image.rootfs.diff.tar.gzip", "size": len(packed), "digest": put(packed)}},
	})
	digest := put(manifest)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		name, tag, _ := strings.Cut(PulledImage, ":")
		content := blobs[r.URL.Path[strings.LastIndex(r.URL.Path, "/")+1:]]
		if r.URL.Path == "/v2/"+name+"/manifests/"+tag {
			content = manifest
		}
		switch {
		case r.URL.Path == "/v2/":
		case content == nil || !strings.HasPrefix(r.URL.Path, "/v2/"+name+"/"):
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(http.StatusNotFound)
			_, _ = w.Write([]byte(`{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown"}]}`))
		default:
			if strings.Contains(r.URL.Path, "/manifests/") {
				w.Header().Set("Content-Type", docker+"distribution.manifest.v2+json")
				w.Header().Set("Docker-Content-Digest", digest)
			}
			w.Header().Set("Content-Length", strconv.Itoa(len(content)))
			if r.Method != http.MethodHead {
				_, _ = w.Write(content)
			}
		}
	}))
	t.Cleanup(server.Close)
	return strings.TrimPrefix(server.URL, "http://")
}

// layerOf is a layer with one file, plain and packed.
func layerOf(t *testing.T, name, content string) (layer, packed []byte) {
	t.Helper()
	var plain, small bytes.Buffer
	archive := tar.NewWriter(&plain)
	if err := archive.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(len(content)), Typeflag: tar.TypeReg}); err != nil {
		t.Fatal(err)
	}
	if _, err := archive.Write([]byte(content)); err != nil {
		t.Fatal(err)
	}
	if err := archive.Close(); err != nil {
		t.Fatal(err)
	}
	zip := gzip.NewWriter(&small)
	if _, err := zip.Write(plain.Bytes()); err != nil {
		t.Fatal(err)
	}
	if err := zip.Close(); err != nil {
		t.Fatal(err)
	}
	return plain.Bytes(), small.Bytes()
}
