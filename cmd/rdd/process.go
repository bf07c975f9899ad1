package main

import (
	"encoding/json"
	"os"

	"github.com/rdd-desktop/rdd/supervisor"
)

// holder is the live process that serves the instance by its edge.json: somebody must hold the lock, and pid and start time must
// both be right. It is for a daemon that does not answer; one that answers tells its pid itself.
func holder(i supervisor.Instance) (process, bool) {
	if !i.Held() {
		return process{}, false
	}
	data, err := os.ReadFile(i.Edge())
	if err != nil {
		return process{}, false
	}
	var f struct {
		PID          int    `json:"pid"`
		ProcessStart string `json:"processStart"`
	}
	if json.Unmarshal(data, &f) != nil || f.PID <= 0 || f.ProcessStart == "" {
		return process{}, false
	}
	p := process{f.PID, f.ProcessStart}
	return p, p.runs()
}
