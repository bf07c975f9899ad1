package server

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"

	"github.com/rdd-desktop/rdd/dockerio"
	"github.com/rdd-desktop/rdd/dockerio/sim"
	"github.com/rdd-desktop/rdd/messages"
)

var imageRoutes = []route{
	{"GET /images/json", sim.OpListImages, false, listImages},
	{"POST /images/create", sim.OpPull, true, pullOrImport},
	{"POST /images/load", sim.OpLoad, true, load},
	{"POST /images/prune", sim.OpPruneImages, true, pruneImages},
	{"GET /images/get", sim.OpSave, false, save},
	{"GET /images/{name...}", sim.OpInspectImage, false, ofImage(map[string]handler{"json": inspectImage, "get": save, "history": history})},
	{"POST /images/{name...}", sim.OpTag, true, ofImage(map[string]handler{"tag": tag})},
	{"DELETE /images/{name...}", sim.OpRemoveImage, true, removeImage},
}

// ofImage chooses by the path's last element: what is before it is the image's name, slashes and all.
func ofImage(by map[string]handler) handler {
	return func(c *call) (any, error) {
		if handle, ok := by[c.URL.Path[strings.LastIndex(c.URL.Path, "/")+1:]]; ok {
			return handle(c)
		}
		return nil, &sim.Refusal{Status: http.StatusNotFound, Text: "page not found"}
	}
}

func imageRow(i sim.ImageDetail) map[string]any {
	tags, digests := i.Tags, i.Digests
	if len(tags) == 0 {
		tags = []string{"<none>:<none>"}
		if len(digests) == 0 {
			digests = []string{"<none>@<none>"}
		}
	}
	row := map[string]any{"Id": i.ID, "ParentId": "", "RepoTags": tags, "RepoDigests": list(digests), "Created": i.Created.Unix(), "Size": i.Size,
		"VirtualSize": i.Size, "SharedSize": -1, "Containers": -1, "Labels": nil}
	if len(i.Labels) > 0 {
		row["Labels"] = i.Labels
	}
	return row
}

func listImages(c *call) (any, error) {
	f, err := c.filters("dangling", "label", "before", "since", "reference", "until")
	if err != nil {
		return nil, err
	}
	var before, since dockerio.Time
	for key, at := range map[string]*dockerio.Time{"before": &before, "since": &since} {
		for _, ref := range f[key] {
			i, err := c.engine.ImageByRef(ref)
			if err != nil {
				return nil, err
			}
			*at = i.Created
		}
	}
	rows := []any{}
	dangling, asked := f.flag("dangling")
	for _, i := range c.engine.Images() {
		if len(f["reference"]) > 0 {
			i.Tags = slices.DeleteFunc(i.Tags, func(t string) bool {
				return !f.any("reference", func(pattern string) bool { return reference(pattern, t) })
			})
			if len(i.Tags) == 0 {
				continue
			}
		}
		if asked && dangling != (len(i.Tags) == 0) || !f.labels(i.Labels) || !before.IsZero() && i.Created.Sub(before) >= 0 ||
			!since.IsZero() && i.Created.Sub(since) <= 0 {
			continue
		}
		rows = append(rows, imageRow(i))
	}
	return rows, nil
}

func inspectImage(c *call) (any, error) {
	i, err := c.engine.ImageByRef(c.name)
	if is(err, messages.ClassNotFound) {
		refusal, _ := sim.Refused(err)
		err = &sim.Refusal{Status: http.StatusNotFound, Text: "no such image: " + c.name + ": " + refusal.Text}
	}
	if err != nil {
		return nil, err
	}
	row := imageRow(i)
	config := map[string]any{"Hostname": "", "User": i.Config.User, "Env": list(i.Config.Env), "Cmd": list(i.Config.Cmd),
		"Entrypoint": list(i.Config.Entrypoint), "WorkingDir": i.Config.WorkingDir, "Labels": row["Labels"], "Image": "", "Volumes": nil}
	if len(i.Config.ExposedPorts) > 0 {
		config["ExposedPorts"] = i.Config.ExposedPorts
	}
	if len(i.Config.Volumes) > 0 {
		config["Volumes"] = i.Config.Volumes
	}
	return map[string]any{"Id": i.ID, "RepoTags": orEmpty(i.Tags), "RepoDigests": orEmpty(i.Digests), "Parent": "", "Comment": "",
		"Created": moment(i.Created), "Container": "", "DockerVersion": sim.Version, "Author": "", "Config": config, "Architecture": i.Architecture,
		"Os": i.OS, "Size": i.Size, "VirtualSize": i.Size, "GraphDriver": map[string]any{"Name": "overlay2", "Data": nil},
		"RootFS": map[string]any{"Type": "layers", "Layers": []string{i.Layer}}, "Metadata": map[string]any{"LastTagTime": moment(i.LastTagTime)}}, nil
}

func history(c *call) (any, error) {
	i, err := c.engine.ImageByRef(c.name)
	return []any{map[string]any{"Id": i.ID, "Created": i.Created.Unix(), "CreatedBy": "", "Tags": list(i.Tags), "Size": i.Size, "Comment": ""}}, err
}

func tag(c *call) (any, error) {
	ref := c.query("repo")
	if t := c.query("tag"); t != "" {
		ref += ":" + t
	}
	if ref == "" || strings.ToLower(c.query("repo")) != c.query("repo") {
		return nil, invalid("invalid reference format")
	}
	return created{nil}, c.engine.Tag(c.name, ref)
}

func removals(removed []sim.Removed) []map[string]string {
	rows := []map[string]string{}
	for _, r := range removed {
		if r.Untagged != "" {
			rows = append(rows, map[string]string{"Untagged": r.Untagged})
		} else {
			rows = append(rows, map[string]string{"Deleted": r.Deleted})
		}
	}
	return rows
}

func removeImage(c *call) (any, error) {
	removed, err := c.engine.RemoveImage(c.name, c.flag("force"))
	return removals(removed), err
}

func pruneImages(c *call) (any, error) {
	f, err := c.filters("dangling", "label", "label!", "until")
	if err != nil {
		return nil, err
	}
	pick, err := f.pick()
	if err != nil {
		return nil, err
	}
	dangling, asked := f.flag("dangling")
	removed, reclaimed := c.engine.ImagePrune(asked && !dangling, pick)
	return map[string]any{"ImagesDeleted": removals(removed), "SpaceReclaimed": reclaimed}, nil
}

// progress writes what an operation on images says, one JSON value a line.
type progress struct{ w http.ResponseWriter }

func (p progress) say(line map[string]any) {
	_ = json.NewEncoder(p.w).Encode(line) // who has gone does not read it
	flush(p.w)
}

func (p progress) status(id, format string, args ...any) {
	line := map[string]any{"status": fmt.Sprintf(format, args...)}
	if id != "" {
		line["id"], line["progressDetail"] = id, map[string]any{}
	}
	p.say(line)
}

func reporting(f func(p progress)) streamed {
	return func(w http.ResponseWriter) error {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusOK)
		f(progress{w})
		return nil
	}
}

func pullOrImport(c *call) (any, error) {
	ref := c.query("fromImage")
	if ref == "" {
		return importImage(c)
	}
	if t := c.query("tag"); t != "" {
		separator := ":"
		if strings.HasPrefix(t, "sha256:") {
			separator = "@"
		}
		ref += separator + t
	}
	ref = sim.Familiar(ref)
	had, _ := c.engine.ImageByRef(ref)
	id, err := c.engine.Pull(ref)
	if err != nil {
		return nil, err
	}
	i, err := c.engine.ImageByRef(id)
	if err != nil {
		return nil, err
	}
	return reporting(func(p progress) { p.pulled(ref, i, had.ID == id) }), nil
}

// pulled tells of a pull that is done already.
func (p progress) pulled(ref string, i sim.ImageDetail, had bool) {
	colon := strings.LastIndex(ref, ":")
	repository, tag := ref[:colon], ref[colon+1:]
	from := repository
	if !strings.Contains(from, "/") {
		from = "library/" + from
	} else if host, rest, _ := strings.Cut(from, "/"); strings.ContainsAny(host, ".:") || host == "localhost" {
		from = rest
	}
	p.status(tag, "Pulling from %s", from)
	layer := strings.TrimPrefix(i.Blob, "sha256:")[:12]
	if had {
		p.finish(repository, tag, i, "Image is up to date for")
		return
	}
	p.status(layer, "Pulling fs layer")
	for _, stage := range []string{"Downloading", "Extracting"} {
		for part := range int64(3) {
			p.say(map[string]any{"status": stage, "id": layer, "progressDetail": map[string]int64{"current": i.Size * (part + 1) / 3, "total": i.Size},
				"progress": "[=>]"})
		}
		if stage == "Downloading" {
			p.status(layer, "Verifying Checksum")
			p.status(layer, "Download complete")
		}
	}
	p.status(layer, "Pull complete")
	p.finish(repository, tag, i, "Downloaded newer image for")
}

func (p progress) finish(repository, tag string, i sim.ImageDetail, what string) {
	for _, d := range i.Digests {
		if name, digest, _ := strings.Cut(d, "@"); name == repository {
			p.status("", "Digest: %s", digest)
		}
	}
	p.status("", "Status: %s %s:%s", what, repository, tag)
}

// importImage makes an image of a file system, of which only size and checksum are kept.
func importImage(c *call) (any, error) {
	if c.query("fromSrc") != "-" {
		return nil, invalid("the simulated engine imports from the request only")
	}
	sum := sha256.New()
	size, err := io.Copy(sum, c.Body)
	if err != nil {
		return nil, err
	}
	o := sim.ImageOptions{Tag: c.query("repo"), Marker: hex.EncodeToString(sum.Sum(nil)), Size: size}
	if t := c.query("tag"); t != "" {
		o.Tag += ":" + t
	}
	for _, change := range c.URL.Query()["changes"] {
		if err := apply(&o, change); err != nil {
			return nil, err
		}
	}
	id, err := c.engine.ImportImage(o)
	if err != nil {
		return nil, err
	}
	return reporting(func(p progress) { p.status("", "%s", id) }), nil
}

// apply makes a change of an image: an instruction of a Dockerfile.
func apply(o *sim.ImageOptions, change string) error {
	word, rest, _ := strings.Cut(strings.TrimSpace(change), " ")
	command := func() []string {
		var list []string
		if json.Unmarshal([]byte(rest), &list) == nil {
			return list
		}
		return []string{"/bin/sh", "-c", rest}
	}
	switch strings.ToUpper(word) {
	case "CMD":
		o.Config.Cmd = command()
	case "ENTRYPOINT":
		o.Config.Entrypoint = command()
	case "ENV":
		o.Config.Env = append(o.Config.Env, rest)
	case "WORKDIR":
		o.Config.WorkingDir = rest
	case "USER":
		o.Config.User = rest
	case "EXPOSE":
		if !strings.Contains(rest, "/") {
			rest += "/tcp"
		}
		o.Config.ExposedPorts = map[string]struct{}{rest: {}}
	case "LABEL":
		key, value, _ := strings.Cut(rest, "=")
		if o.Labels == nil {
			o.Labels = map[string]string{}
		}
		o.Labels[key] = strings.Trim(value, `"`)
	default:
		return invalid("%s is not a valid change command", word)
	}
	return nil
}
