package server

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"

	"github.com/rdd-desktop/rdd/dockerio/sim"
	"github.com/rdd-desktop/rdd/messages"
)

// manifestFile lists the images of an archive, as docker save writes it.
const manifestFile = "manifest.json"

type manifest struct {
	Config   string
	RepoTags []string
	Layers   []string
}

// configFile is an image's configuration. Its name is the image's id: here it is not the checksum of its content, as of a real one.
type configFile struct {
	Architecture string            `json:"architecture"`
	OS           string            `json:"os"`
	Config       json.RawMessage   `json:"config"`
	Labels       map[string]string `json:"simulated_labels,omitempty"`
	Marker       string            `json:"simulated_marker,omitempty"`
	Size         int64             `json:"simulated_size,omitempty"`
}

func save(c *call) (any, error) {
	names := c.URL.Query()["names"]
	if c.name != "" {
		names = []string{c.name}
	}
	var archives []sim.Archive
	for _, name := range names {
		a, err := c.engine.Save(name)
		if is(err, messages.ClassNotFound) {
			err = &sim.Refusal{Status: http.StatusInternalServerError, Text: "reference does not exist"}
		}
		if err != nil {
			return nil, err
		}
		archives = append(archives, a)
	}
	return streamed(func(w http.ResponseWriter) error {
		w.Header().Set("Content-Type", "application/x-tar")
		w.WriteHeader(http.StatusOK)
		return writeArchive(w, archives)
	}), nil
}

func writeArchive(w io.Writer, archives []sim.Archive) error {
	out := tar.NewWriter(w)
	file := func(name string, content any) error {
		encoded, err := json.Marshal(content)
		if err != nil {
			return err
		}
		if err := out.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(len(encoded)), Typeflag: tar.TypeReg}); err != nil {
			return err
		}
		_, err = out.Write(encoded)
		return err
	}
	var all []manifest
	for _, a := range archives {
		o := a.Options()
		config, err := json.Marshal(o.Config)
		if err != nil {
			return err
		}
		name := strings.TrimPrefix(a.ID(), "sha256:") + ".json"
		if err := file(name, configFile{o.Architecture, "linux", config, o.Labels, o.Marker, o.Size}); err != nil {
			return err
		}
		all = append(all, manifest{Config: name, RepoTags: a.Tags(), Layers: []string{}})
	}
	if err := file(manifestFile, all); err != nil {
		return err
	}
	return out.Close()
}

func load(c *call) (any, error) {
	archives, err := readArchive(c.Body)
	if err != nil {
		return nil, &sim.Refusal{Status: http.StatusInternalServerError, Text: err.Error()}
	}
	var loaded []string
	for _, a := range archives {
		id, err := c.engine.Load(a)
		if err != nil {
			return nil, err
		}
		for _, t := range a.Tags() {
			loaded = append(loaded, "Loaded image: "+t)
		}
		if len(a.Tags()) == 0 {
			loaded = append(loaded, "Loaded image ID: "+id)
		}
	}
	return reporting(func(p progress) {
		for _, line := range loaded {
			p.say(map[string]any{"stream": line + "\n"})
		}
	}), nil
}

// mostOfFile is how much of a file in an archive is read: configurations are small, and layers mean nothing here.
const mostOfFile = 1 << 20

func readArchive(r io.Reader) ([]sim.Archive, error) {
	files := map[string][]byte{}
	var size int64
	for in := tar.NewReader(r); ; {
		header, err := in.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, fmt.Errorf("archive/tar: %w", err)
		}
		size += header.Size
		if strings.HasSuffix(header.Name, ".json") {
			content, err := io.ReadAll(io.LimitReader(in, mostOfFile))
			if err != nil {
				return nil, err
			}
			files[header.Name] = content
		}
	}
	var all []manifest
	if err := json.NewDecoder(bytes.NewReader(files[manifestFile])).Decode(&all); err != nil {
		return nil, fmt.Errorf("open %s: no such file or directory", manifestFile)
	}
	var archives []sim.Archive
	for _, m := range all {
		var f configFile
		if err := json.Unmarshal(files[m.Config], &f); err != nil {
			return nil, fmt.Errorf("invalid configuration %q in the archive", m.Config)
		}
		o := sim.ImageOptions{Labels: f.Labels, Architecture: f.Architecture, Marker: f.Marker, Size: f.Size}
		if o.Size == 0 {
			o.Size = size
		}
		if err := json.Unmarshal(f.Config, &o.Config); err != nil && len(f.Config) > 0 {
			return nil, err
		}
		archives = append(archives, sim.MakeArchive("sha256:"+strings.TrimSuffix(m.Config, ".json"), m.RepoTags, o))
	}
	return archives, nil
}
