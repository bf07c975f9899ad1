package supervisor

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"io/fs"
	"net"
	"os"
	"slices"
	"time"

	"github.com/rdd-desktop/rdd/messages"
)

// edgeFile is edge.json: where the daemon listens, who it is, and what lets a client in. It is written once per serve,
// 0600, in one piece, and removed at its end.
type edgeFile struct {
	// ID is of one serve.
	ID           string      `json:"id"`
	Address      string      `json:"address"`
	Boot         int64       `json:"boot"`
	PID          int         `json:"pid"`
	ProcessStart string      `json:"processStart"`
	WireVersions []int       `json:"wireVersions"`
	Client       pemIdentity `json:"client"`
}

func (f *edgeFile) write(path string) error {
	data, err := json.MarshalIndent(f, "", "  ")
	if err != nil {
		return err
	}
	return replaceFile(path, append(data, '\n'))
}

// removeEdgeFile removes the file only while it is still that of this serve.
func removeEdgeFile(path, id string) {
	if f, err := readEdgeFile(path); err == nil && f.ID == id {
		_ = os.Remove(path)
	}
}

func readEdgeFile(path string) (*edgeFile, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	f := &edgeFile{}
	if err := json.Unmarshal(data, f); err != nil {
		return nil, err
	}
	if host, _, err := net.SplitHostPort(f.Address); err != nil || host != loopback {
		return nil, errors.New("the address is not one of this host")
	}
	return f, nil
}

func notRunning(i Instance, why string) error {
	return messages.NewError(messages.CodeDaemonNotRunning, "reach", "daemon", i.Name, why)
}

// findDaemon reads edge.json and makes sure that who it names lives and answers. It takes milliseconds.
func findDaemon(ctx context.Context, i Instance) (*edgeFile, identity, error) {
	f, err := readEdgeFile(i.Edge())
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, identity{}, notRunning(i, "it is not running")
	case errors.Is(err, fs.ErrPermission):
		return nil, identity{}, messages.WrapError(messages.CodeForbidden, "reach", "daemon", i.Name, err)
	case err != nil:
		return nil, identity{}, notRunning(i, i.Edge()+": "+err.Error())
	}
	if !slices.Contains(f.WireVersions, messages.WireVersion) {
		return nil, identity{}, unsupportedVersions(f.WireVersions)
	}
	if start, err := processStart(f.PID); err != nil || f.ProcessStart != "" && start != f.ProcessStart {
		return nil, identity{}, notRunning(i, "it is not running (it ended without saying so)")
	}
	c, err := f.Client.parse(f.ID)
	if err != nil {
		return nil, identity{}, notRunning(i, i.Edge()+": "+err.Error())
	}
	ctx, cancel := context.WithTimeout(ctx, probeDeadline)
	defer cancel()
	conn, err := (&tls.Dialer{NetDialer: &net.Dialer{}, Config: c.dialConfig()}).DialContext(ctx, "tcp", f.Address)
	if err != nil {
		return nil, identity{}, notRunning(i, "it does not answer: "+err.Error())
	}
	_ = conn.Close()
	return f, c, nil
}

// probeDeadline is how long a live daemon may take to greet.
const probeDeadline = 2 * time.Second
