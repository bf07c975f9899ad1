package supervisor

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"syscall"

	"github.com/rdd-desktop/rdd/messages"
)

// DefaultInstance is the name of the instance when neither the caller nor RDD_INSTANCE says one.
const DefaultInstance = "2"

// dirPrefix begins the name of every instance's directory in the data home.
const dirPrefix = "rancher-desktop-"

// maxSocketPath is the longest path every system takes for a unix socket: macOS has 104 bytes with the terminating zero.
const maxSocketPath = 103

var instanceName = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{0,31}$`)

// Instance names one rdd of a user and every path it uses. Paths follow the environment at the time of the call
// (XDG_DATA_HOME, HOME, RDD_LOG_DIR); nothing is created by reading one.
type Instance struct{ Name string }

// NewInstance validates the name ([a-z0-9][a-z0-9-]{0,31}); an empty one is $RDD_INSTANCE, else "2". Error: BadRequest.
func NewInstance(name string) (Instance, error) {
	if name == "" {
		name = os.Getenv("RDD_INSTANCE")
	}
	if name == "" {
		name = DefaultInstance
	}
	if !instanceName.MatchString(name) {
		return Instance{}, messages.NewError(messages.CodeBadRequest, "use", "instance", name,
			"a name has 1 to 32 of a-z, 0-9 and -, and does not begin with -")
	}
	return Instance{Name: name}, nil
}

// Dir is where the instance keeps what is its own.
func (i Instance) Dir() string { return filepath.Join(dataHome(), dirPrefix+i.Name) }

// ShortDir holds what has a socket in it: paths of sockets are limited to about 100 bytes.
func (i Instance) ShortDir() string { return filepath.Join(homeDir(), ".rd"+i.Name) }

// LogDir is $RDD_LOG_DIR, else a folder of Dir.
func (i Instance) LogDir() string {
	if dir := os.Getenv("RDD_LOG_DIR"); dir != "" {
		if abs, err := filepath.Abs(dir); err == nil {
			return abs
		}
		return dir
	}
	return filepath.Join(i.Dir(), "log")
}

// LimaHome is LIMA_HOME of this instance's VM.
func (i Instance) LimaHome() string { return filepath.Join(i.ShortDir(), "lima") }

// TLSDir is for certificates of the engine.
func (i Instance) TLSDir() string { return filepath.Join(i.Dir(), "tls") }

// ConfigFile is the instance's configuration file.
func (i Instance) ConfigFile() string { return filepath.Join(i.Dir(), "config.json") }

// PIDFile tells people the daemon's pid; nothing is ever decided by it.
func (i Instance) PIDFile() string { return filepath.Join(i.Dir(), "rdd.pid") }

// ArgsFile has the arguments the daemon was started with.
func (i Instance) ArgsFile() string { return filepath.Join(i.Dir(), "rdd.args") }

// DockerSocket is the socket of the engine this instance runs itself.
func (i Instance) DockerSocket() string { return filepath.Join(i.ShortDir(), "docker.sock") }

// nativeDir is where the native driver keeps its engine.
func (i Instance) nativeDir() string { return filepath.Join(i.Dir(), "native") }

// simulatedDir is where the simulated driver keeps its engine.
func (i Instance) simulatedDir() string { return filepath.Join(i.Dir(), "simulated") }

// Journal is the file of durable intents.
func (i Instance) Journal() string { return filepath.Join(i.Dir(), "journal.db") }

// Edge tells clients where the daemon listens, and lets them in.
func (i Instance) Edge() string { return filepath.Join(i.Dir(), "edge.json") }

// Lock is held by the one daemon of the instance.
func (i Instance) Lock() string { return filepath.Join(i.Dir(), "rdd.lock") }

// Path is one of an instance's paths.
type Path struct{ Key, Value string }

// Paths are the keys of "rdd svc paths" in order.
func (i Instance) Paths() []Path {
	return []Path{
		{"dir", i.Dir()},
		{"log_dir", i.LogDir()},
		{"short_dir", i.ShortDir()},
		{"lima_home", i.LimaHome()},
		{"tls_dir", i.TLSDir()},
		{"config", i.ConfigFile()},
		{"pid_file", i.PIDFile()},
		{"args_file", i.ArgsFile()},
		{"docker_socket", i.DockerSocket()},
		{"journal", i.Journal()},
		{"edge", i.Edge()},
		{"lock", i.Lock()},
	}
}

// Instances are those of this user that have a directory, by name. Nothing is created; another user's are left out.
func Instances() ([]Instance, error) {
	entries, err := os.ReadDir(dataHome())
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, messages.WrapError(messages.CodeForbidden, "list", "instances", "", err)
	}
	var out []Instance
	for _, e := range entries {
		name, ours := strings.CutPrefix(e.Name(), dirPrefix)
		if i, err := NewInstance(name); ours && name != "" && e.IsDir() && err == nil && i.checkOwner() == nil {
			out = append(out, i)
		}
	}
	return out, nil
}

// Create makes the instance's directories, 0700 each, and tells whether there was none before. What is there stays; a mode that lets
// others in is corrected. Errors as Check; then nothing was created.
func (i Instance) Create() (created bool, err error) {
	if err := i.Check(); err != nil {
		return false, err
	}
	_, statErr := os.Stat(i.Dir())
	for _, dir := range []string{i.Dir(), i.ShortDir(), i.LogDir()} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return false, messages.WrapError(messages.CodeForbidden, "make", "instance directory", dir, err)
		}
	}
	for _, dir := range []string{i.Dir(), i.ShortDir()} { // the log's may be one that the user shares
		if err := os.Chmod(dir, 0o700); err != nil {
			return false, messages.WrapError(messages.CodeForbidden, "protect", "instance directory", dir, err)
		}
	}
	return errors.Is(statErr, fs.ErrNotExist), nil
}

// Check refuses an instance that belongs to another user (Forbidden, naming the owner) and socket paths that are too long
// (Invalid). It creates nothing.
func (i Instance) Check() error {
	if homeDir() == "" {
		return messages.NewError(messages.CodeInvalid, "use", "instance", i.Name, "no home directory: set HOME")
	}
	if err := i.checkOwner(); err != nil {
		return err
	}
	if s := i.DockerSocket(); len(s) > maxSocketPath {
		return messages.NewError(messages.CodeInvalid, "use", "instance", i.Name, fmt.Sprintf(
			"the socket path %s has %d bytes, a system takes at most %d: use a shorter instance name or home directory",
			s, len(s), maxSocketPath))
	}
	return nil
}

// checkOwner: the one who owns its directories owns the instance; root is a stranger too.
func (i Instance) checkOwner() error {
	if err := i.checkOwnerOf(i.Dir()); err != nil {
		return err
	}
	return i.checkOwnerOf(i.ShortDir())
}

func (i Instance) checkOwnerOf(dir string) error {
	info, err := os.Stat(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case errors.Is(err, fs.ErrPermission):
		return messages.WrapError(messages.CodeForbidden, "use", "instance", i.Name, err)
	case errors.Is(err, syscall.ENAMETOOLONG):
		e := messages.WrapError(messages.CodeInvalid, "use", "instance", i.Name, err)
		e.Message = "no such directory can be: use a shorter home directory"
		return e
	case err != nil:
		return messages.WrapError(messages.CodeInternal, "use", "instance", i.Name, err)
	case !info.IsDir():
		return messages.NewError(messages.CodeInvalid, "use", "instance", i.Name, dir+" is not a directory")
	}
	uid, known := fileOwner(info)
	return i.ownedBy(dir, uid, os.Geteuid(), known)
}

func (i Instance) ownedBy(dir string, owner, euid int, known bool) error {
	if !known || owner == euid {
		return nil
	}
	e := messages.NewError(messages.CodeForbidden, "use", "instance", i.Name, fmt.Sprintf(
		"%s belongs to %s; you are %s", dir, userName(owner), userName(euid)))
	e.Details = map[string]string{"owner": userName(owner)}
	return e
}

func userName(uid int) string {
	id := fmt.Sprint(uid)
	if u, err := user.LookupId(id); err == nil {
		return u.Username
	}
	return "uid " + id
}

// dataHome is XDG's data home: $XDG_DATA_HOME when it is absolute, else the system's own place for a user's data.
func dataHome() string {
	if dir := os.Getenv("XDG_DATA_HOME"); filepath.IsAbs(dir) {
		return dir
	}
	home := homeDir()
	switch runtime.GOOS {
	case "darwin":
		return filepath.Join(home, "Library", "Application Support")
	case "windows":
		if dir := os.Getenv("LOCALAPPDATA"); filepath.IsAbs(dir) {
			return dir
		}
		return filepath.Join(home, "AppData", "Local")
	}
	return filepath.Join(home, ".local", "share")
}

func homeDir() string {
	if dir, err := os.UserHomeDir(); err == nil && filepath.IsAbs(dir) {
		return dir
	}
	if u, err := user.Current(); err == nil {
		return u.HomeDir
	}
	return ""
}
