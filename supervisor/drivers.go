package supervisor

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"time"

	"github.com/rdd-desktop/rdd/messages"
	"github.com/rdd-desktop/rdd/vmdriver"
	"github.com/rdd-desktop/rdd/vmdriver/external"
	"github.com/rdd-desktop/rdd/vmdriver/native"
	"github.com/rdd-desktop/rdd/vmdriver/simulated"
)

// drivers are those of this build: what has files needs an instance to keep them in.
func drivers(i *Instance, log *slog.Logger) map[string]vmdriver.Driver {
	all := map[string]vmdriver.Driver{messages.DriverExternal: external.New(external.Config{})}
	if i != nil {
		all[messages.DriverSimulated] = simulated.New(simulated.Config{Dir: i.simulatedDir(), Socket: i.DockerSocket(), Log: log})
	}
	if i != nil && runtime.GOOS == "linux" {
		all[messages.DriverNative] = native.New(native.Config{Dir: i.nativeDir(), RunDir: i.ShortDir(), Socket: i.DockerSocket(), Log: log})
	}
	return all
}

// resolve chooses the driver for "auto": the first that can run here. Never the simulated one.
func (r *Rdd) resolve(messages.AppSpec) (string, error) {
	reasons := []error{}
	for _, name := range []string{messages.DriverLima, messages.DriverNative, messages.DriverExternal} {
		d := r.cfg.Drivers[name]
		if d == nil {
			continue
		}
		err := available(d)
		if err == nil {
			return name, nil
		}
		r.cfg.Log.Info("driver not chosen", "driver", name, "because", err)
		reasons = append(reasons, err)
	}
	return "", messages.NewError(messages.CodeInvalid, "choose", "driver", messages.DriverAuto,
		"no driver can run here"+colon(errors.Join(reasons...)))
}

func colon(err error) string {
	if err == nil {
		return ""
	}
	return ": " + err.Error()
}

// available tells why the driver cannot run here, if it is one that knows.
func available(d vmdriver.Driver) error {
	if d, ok := d.(interface{ Available() error }); ok {
		return d.Available()
	}
	return nil
}

func (r *Rdd) backends(driver string) []string {
	if d := r.cfg.Drivers[driver]; d != nil {
		return d.Capabilities().Backends
	}
	return nil
}

// sizeless: the driver is here, and makes no machine of a size.
func (r *Rdd) sizeless(driver string) bool {
	d := r.cfg.Drivers[driver]
	return d != nil && !d.Capabilities().Resizable
}

// endEngines stops what runs of the engines that are ours: in order, and by force what does not end so. It tells whether there
// was any.
func endEngines(ctx context.Context, log *slog.Logger, all map[string]vmdriver.Driver) (bool, error) {
	var any bool
	var errs []error
	for _, name := range slices.Sorted(maps.Keys(all)) {
		d := all[name]
		if !d.Capabilities().OwnsEngine {
			continue
		}
		seen, err := d.Inspect(ctx, vmdriver.Spec{})
		if err == nil && (seen.Phase == vmdriver.Absent || seen.Phase == vmdriver.Stopped) {
			continue
		}
		any = true
		log.Info("stopping the engine", "driver", name)
		if err := d.Stop(ctx, false); err != nil {
			log.Warn("the engine did not stop in order; now by force", "driver", name, "err", err)
			errs = append(errs, d.Stop(ctx, true))
		}
	}
	return any, errors.Join(errs...)
}

// StopEngine stops the engine that an instance without a daemon left running, and tells whether there was one. Errors: Conflict (a
// daemon holds the instance), Forbidden (another user's), and what the driver says.
func (i Instance) StopEngine(ctx context.Context, log *slog.Logger) (bool, error) {
	var stopped bool
	err := i.alone(ctx, "stop the engine of", func() (err error) {
		stopped, err = endEngines(ctx, log, drivers(&i, log))
		return err
	})
	return stopped, err
}

// Delete ends the engine of an instance without a daemon and removes everything the instance has: containers, images, volumes,
// intents, logs. Nothing there = success. Errors as of StopEngine; what could not be removed.
func (i Instance) Delete(ctx context.Context, log *slog.Logger) error {
	return i.alone(ctx, "delete", func() error {
		var errs []error
		for _, d := range drivers(&i, log) {
			errs = append(errs, d.Delete(ctx))
		}
		if err := errors.Join(errs...); err != nil {
			return err // its files are what the next try needs
		}
		logs := i.LogDir()
		for _, pattern := range logFiles {
			files, _ := filepath.Glob(filepath.Join(logs, pattern))
			for _, f := range files {
				errs = append(errs, os.Remove(f))
			}
		}
		errs = append(errs, os.RemoveAll(i.ShortDir()), os.RemoveAll(i.Dir()))
		_ = os.Remove(logs) // when it is elsewhere (RDD_LOG_DIR) and nobody else's files are in it
		return errors.Join(errs...)
	})
}

// logFiles are what the daemon and the command line write into the log directory, which may hold more.
var logFiles = []string{"rdd*.log*", "rdd.err*"}

// How long, and how often, a lock is tried that another process should be giving back.
const (
	lockPatience = 3 * time.Second
	lockPause    = 20 * time.Millisecond
)

// alone does something while no daemon can have the instance; without its directory there is nothing to hold.
func (i Instance) alone(ctx context.Context, verb string, f func() error) error {
	if err := i.checkOwner(); err != nil {
		return err
	}
	if _, err := os.Stat(i.Dir()); errors.Is(err, os.ErrNotExist) {
		return f()
	}
	// The kernel gives back the lock of a killed daemon a moment after its process is gone.
	deadline := time.Now().Add(lockPatience)
	lock, err := lockInstance(i, verb)
	for errors.Is(err, messages.ErrConflict) && ctx.Err() == nil && time.Now().Before(deadline) {
		time.Sleep(lockPause)
		lock, err = lockInstance(i, verb)
	}
	if err != nil {
		return err
	}
	defer unlockInstance(lock)
	return f()
}
