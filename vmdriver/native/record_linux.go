package native

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"

	"github.com/google/renameio/v2"

	"github.com/rdd-desktop/rdd/vmdriver/native/host"
)

// stage is how far the life of the engine on the host has come. It is on disk before the step it speaks of.
type stage string

const (
	// stageDown: nothing of the engine is on the host but files.
	stageDown stage = ""
	// stageUp: there may be a bridge, a dockerd, containers.
	stageUp stage = "up"
	// stageLeaving: a stop has begun; live-restore may be off, dockerd was told nothing else.
	stageLeaving stage = "leaving"
	// stageEnding: dockerd may have got a signal to end; containers may be gone.
	stageEnding stage = "ending"
)

// record is what the next process of rdd needs to know of the engine.
type record struct {
	Stage stage `json:"stage"`
	// Boot is the boot of the machine that all but Subnet is about.
	Boot   string       `json:"boot"`
	Daemon host.Process `json:"daemon"`
	// Subnet of the engine's networks; kept for the next start.
	Subnet netip.Prefix `json:"subnet"`
}

// load reads the record; what is of another boot of the machine is not there any more. A record that cannot be read is one of an
// engine about which nothing is known: everything is looked for.
func (d *Driver) load() (record, error) {
	now := host.BootID()
	data, err := os.ReadFile(d.c.file(recordName))
	if err != nil {
		return record{Boot: now}, err
	}
	var r record
	if err := json.Unmarshal(data, &r); err != nil {
		d.c.Log.Warn("the record of the native engine is unreadable; looking for what it has on the host", "file", d.c.file(recordName), "err", err)
		return record{Stage: stageUp, Boot: now}, nil
	}
	if r.Boot != now {
		return record{Boot: now, Subnet: r.Subnet}, nil
	}
	return r, nil
}

func (d *Driver) loadOrNew() (record, error) {
	r, err := d.load()
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	return r, err
}

func (d *Driver) save(r record) error {
	data, err := json.Marshal(r)
	if err != nil {
		return err
	}
	if err := renameio.WriteFile(d.c.file(recordName), append(data, '\n'), 0o600); err != nil {
		return fmt.Errorf("record the engine: %w", err)
	}
	return nil
}
