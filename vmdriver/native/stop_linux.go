package native

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"os"
	"syscall"
	"time"

	"github.com/rdd-desktop/rdd/vmdriver/native/host"
)

const (
	// callLimit bounds one call of dockerd's API.
	callLimit = 2 * time.Second
	// reloadLimit is how long dockerd may take to read its configuration again.
	reloadLimit = 5 * time.Second
	// endMargin is what dockerd gets beside the containers' grace to end.
	endMargin = 15 * time.Second
	// killLimit is how long the kernel may take to end a process.
	killLimit = 5 * time.Second
)

// Stop implements the port. It lasts at most the grace and half a minute; containers that do not end within their grace
// are killed. With force they are killed at once.
func (d *Driver) Stop(ctx context.Context, force bool) error {
	d.change.Lock()
	defer d.change.Unlock()
	r, err := d.load()
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil {
		err = d.stop(ctx, r, force)
	}
	return failed("stop", err)
}

// stop begins where an interrupted one ended: each of its steps may be done twice.
func (d *Driver) stop(ctx context.Context, r record, force bool) error {
	p, alive := d.find(r)
	if !alive && r.Stage == stageDown {
		return nil
	}
	if alive && !force && r.Stage != stageEnding {
		// Otherwise the containers would live on. A dockerd that does not answer is ended all the same, and they are below.
		if err := d.liveRestore(ctx, r, p, false); err != nil {
			d.c.Log.Warn("live-restore could not be turned off; the containers are ended without their dockerd", "err", err)
		}
	}
	r.Stage = stageEnding
	d.step("record the end")
	if err := d.save(r); err != nil {
		return err
	}
	if alive {
		if err := d.end(ctx, p, force); err != nil {
			return err
		}
	}
	if err := d.endContainers(ctx, r, force); err != nil {
		return err
	}
	d.step("remove what is left")
	if err := d.onHost(r).Remove(); err != nil {
		return fmt.Errorf("remove what dockerd left: %w", err)
	}
	d.step("remove files")
	for _, f := range []string{d.c.Socket, d.c.pidFile(), d.c.execRoot()} {
		if err := os.RemoveAll(f); err != nil {
			return err
		}
	}
	d.saw(host.Process{})
	d.step("record that it is down")
	return d.save(record{Boot: r.Boot, Subnet: r.Subnet})
}

// liveRestore makes dockerd read its configuration again, and waits until it says so.
func (d *Driver) liveRestore(ctx context.Context, r record, p host.Process, on bool) error {
	r.Stage, r.Daemon = stageLeaving, p
	d.step("record that live-restore changes")
	if err := d.save(r); err != nil {
		return err
	}
	d.step("write live-restore")
	if err := d.configure(ctx, r.Subnet, on); err != nil {
		return err
	}
	d.step("reload")
	if err := p.Signal(syscall.SIGHUP); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, reloadLimit)
	defer cancel()
	for {
		var info struct{ LiveRestoreEnabled *bool }
		err := d.call(ctx, "/info", &info)
		if err == nil && info.LiveRestoreEnabled != nil && *info.LiveRestoreEnabled == on {
			return nil
		}
		if !p.Alive() {
			return errors.New("dockerd has ended" + d.lastWords())
		}
		select {
		case <-ctx.Done():
			return errors.Join(fmt.Errorf("dockerd does not say live-restore=%t: %w", on, ctx.Err()), err)
		case <-time.After(startPause):
		}
	}
}

// end ends dockerd: SIGTERM, and SIGKILL after grace and margin.
func (d *Driver) end(ctx context.Context, p host.Process, force bool) error {
	if !force {
		d.step("SIGTERM")
		if err := errors.Join(p.Signal(syscall.SIGTERM), p.Signal(syscall.SIGCONT)); err != nil {
			return err
		}
		wait, cancel := context.WithTimeout(ctx, d.c.Grace+endMargin)
		ended := p.Wait(wait)
		cancel()
		if ended {
			return d.containerdEnded(ctx)
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		d.c.Log.Warn("dockerd has not ended after SIGTERM; sending SIGKILL", "after", d.c.Grace+endMargin, "pid", p.PID)
	}
	d.step("SIGKILL")
	if err := host.Kill([]host.Process{p}); err != nil {
		return err
	}
	return d.containerdEnded(ctx)
}

// containerdEnded waits for dockerd's containerd, which ends with it.
func (d *Driver) containerdEnded(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, killLimit)
	defer cancel()
	for _, p := range d.onHost(record{}).Helpers().Containerd {
		if !p.Wait(ctx) {
			return host.Kill([]host.Process{p})
		}
	}
	return nil
}

// endContainers ends containers that outlived their dockerd: SIGTERM, and SIGKILL after the grace.
func (d *Driver) endContainers(ctx context.Context, r record, force bool) error {
	h := d.onHost(r).Helpers()
	if !force && len(h.Containers) > 0 {
		d.step("SIGTERM to containers")
		for _, p := range h.Containers {
			if err := p.Signal(syscall.SIGTERM); err != nil {
				return err
			}
		}
		wait, cancel := context.WithTimeout(ctx, d.c.Grace)
		defer cancel()
		for _, p := range h.Containers {
			p.Wait(wait)
		}
	}
	if len(h.Containers) == 0 {
		return nil
	}
	d.step("SIGKILL to containers")
	return d.onHost(r).KillContainers()
}

// Delete implements the port: the engine is ended by force, its files are removed.
func (d *Driver) Delete(ctx context.Context) error {
	if err := d.Stop(ctx, true); err != nil {
		return err
	}
	d.change.Lock()
	defer d.change.Unlock()
	if left := append(host.Mounts(d.c.Dir), host.Mounts(d.c.RunDir)...); len(left) > 0 { // never into something mounted there
		return failed("delete", fmt.Errorf("%s is mounted in its directory", left[0]))
	}
	d.step("remove data")
	return failed("delete", errors.Join(os.RemoveAll(d.c.Dir), os.RemoveAll(d.c.execRoot()), removeIfEmpty(d.c.RunDir)))
}

func removeIfEmpty(dir string) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) || err == nil && len(entries) > 0 {
		return nil
	}
	return os.Remove(dir)
}

// call makes one call of dockerd's API and decodes the answer.
func (d *Driver) call(ctx context.Context, path string, into any) error {
	ctx, cancel := context.WithTimeout(ctx, callLimit)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://dockerd"+path, nil)
	if err != nil {
		return err
	}
	transport := &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", d.c.Socket)
	}}
	response, err := transport.RoundTrip(request)
	if err != nil {
		return err
	}
	defer func() { _ = response.Body.Close() }()
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("GET %s: %s", path, response.Status)
	}
	if into == nil {
		return nil
	}
	return json.NewDecoder(response.Body).Decode(into)
}
