package journal

import (
	"errors"
	"syscall"
	"time"

	"github.com/rdd-desktop/rdd/actors/control"
	"github.com/rdd-desktop/rdd/actors/kit"
)

const (
	// probeEvery is how often a full disk is tried again.
	probeEvery = 2 * time.Second
	// probeBytes is how much a probe writes: more than a record needs.
	probeBytes = 32 << 10
	// keyProbe of BucketMeta is what a probe writes, and then takes away.
	keyProbe = "probe"
)

// probeDue asks whether there is room again.
type probeDue struct{}

// disk is whether the journal's disk has room, as its own writes tell: a full one refuses changes, and nothing else.
type disk struct {
	full    bool
	probing bool
	// told: app knows what it is. It is told anew after a restart.
	told bool
}

// learn takes the outcome of a commit, and tells app what is new.
func (d *disk) learn(c *kit.Context, err error) {
	switch full := errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT); {
	case full:
		c.Tell(control.App, control.DiskReport{Full: true, Message: err.Error()})
		d.full, d.told = true, true
		if !d.probing {
			d.probing = true
			c.After(probeEvery, probeDue{})
		}
	case err == nil && !d.told:
		d.room(c)
	}
}

// room: a probe got through; that a small record did says little.
func (d *disk) room(c *kit.Context) {
	d.full, d.told = false, true
	c.Tell(control.App, control.DiskReport{})
}

// probe writes something as large as records are. When it is through, the second one takes it away.
func (j *journal) probe(c *kit.Context) {
	j.disk.probing = false
	if j.disk.full {
		j.enqueue(c, request{from: c.Self(), commit: &Commit{Token: 1, Ops: []Op{{Bucket: BucketMeta, Key: keyProbe, Value: make([]byte, probeBytes)}}}})
	}
}

// probed takes the answer of a probe.
func (j *journal) probed(c *kit.Context, m Committed) {
	if m.Err == nil && m.Token == 1 {
		j.disk.room(c)
		j.enqueue(c, request{from: c.Self(), commit: &Commit{Ops: []Op{{Bucket: BucketMeta, Key: keyProbe}}}})
	}
}
