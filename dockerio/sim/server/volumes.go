package server

import (
	"fmt"
	"net/http"
	"regexp"

	"github.com/rdd-desktop/rdd/dockerio/sim"
	"github.com/rdd-desktop/rdd/messages"
)

var volumeRoutes = []route{
	{"GET /volumes", sim.OpListVolumes, false, listVolumes},
	{"POST /volumes/create", sim.OpCreateVolume, true, createVolume},
	{"POST /volumes/prune", sim.OpPruneVolumes, true, pruneVolumes},
	{"GET /volumes/{name...}", sim.OpInspectVolume, false, func(c *call) (any, error) {
		v, err := c.engine.VolumeByName(c.name)
		return volumeRow(v), err
	}},
	{"DELETE /volumes/{name...}", sim.OpRemoveVolume, true, removeVolume},
}

func volumeRow(v sim.VolumeDetail) map[string]any {
	row := map[string]any{"Name": v.Name, "Driver": v.Driver, "Mountpoint": v.Mountpoint, "Scope": v.Scope, "CreatedAt": moment(v.Created),
		"Labels": nil, "Options": nil}
	if len(v.Labels) > 0 {
		row["Labels"] = v.Labels
	}
	if len(v.Options) > 0 {
		row["Options"] = v.Options
	}
	return row
}

func listVolumes(c *call) (any, error) {
	f, err := c.filters("dangling", "driver", "label", "name")
	if err != nil {
		return nil, err
	}
	rows := []any{}
	dangling, asked := f.flag("dangling")
	for _, v := range c.engine.Volumes() {
		if f.labels(v.Labels) && f.match("name", v.Name) && f.exact("driver", v.Driver) && (!asked || dangling == (len(v.Users) == 0)) {
			rows = append(rows, volumeRow(v))
		}
	}
	return map[string]any{"Volumes": rows, "Warnings": nil}, nil
}

var validVolume = regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9_.-]+$`)

func createVolume(c *call) (any, error) {
	var q struct {
		Name, Driver       string
		Labels, DriverOpts map[string]string
	}
	if err := c.decode(&q); err != nil {
		return nil, err
	}
	switch {
	case q.Driver != "" && q.Driver != "local":
		return nil, &sim.Refusal{Status: http.StatusNotFound,
			Text: fmt.Sprintf("create %s: error looking up volume plugin %s: plugin %q not found", q.Name, q.Driver, q.Driver)}
	case q.Name != "" && !validVolume.MatchString(q.Name):
		return nil, invalid("create %s: %q includes invalid characters for a local volume name, only \"[a-zA-Z0-9][a-zA-Z0-9_.-]\" are allowed. "+
			"If you intended to pass a host directory, use absolute path", q.Name, q.Name)
	}
	name, err := c.engine.VolumeCreate(sim.VolumeOptions{Name: q.Name, Labels: q.Labels, Options: q.DriverOpts})
	if err != nil {
		return nil, err
	}
	v, err := c.engine.VolumeByName(name)
	return created{volumeRow(v)}, err
}

func removeVolume(c *call) (any, error) {
	err := c.engine.VolumeRm(c.name)
	if c.flag("force") && is(err, messages.ClassNotFound) {
		err = nil
	}
	return nothing{}, err
}

func pruneVolumes(c *call) (any, error) {
	f, err := c.filters("label", "label!")
	if err != nil {
		return nil, err
	}
	pick, err := f.pick()
	if err != nil {
		return nil, err
	}
	return map[string]any{"VolumesDeleted": c.engine.VolumePrune(pick), "SpaceReclaimed": 0}, nil
}
