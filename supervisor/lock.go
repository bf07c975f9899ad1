package supervisor

import (
	"os"

	"github.com/gofrs/flock"

	"github.com/rdd-desktop/rdd/messages"
)

// lockTries bounds how often a lock file may vanish under us; each time another holder has just ended.
const lockTries = 100

// lockInstance takes the instance's lock, without waiting for it. The file goes with its holder: whoever opened it before that
// holds a lock on a file that no longer has a name, while the next one makes and locks a new file. So a lock counts only
// while its file is the one at the path.
//
// Errors: Conflict (another process has it), Internal.
func lockInstance(i Instance, verb string) (*flock.Flock, error) {
	for range lockTries {
		l := flock.New(i.Lock())
		held, err := l.TryLock()
		switch {
		case err != nil:
			return nil, messages.WrapError(messages.CodeInternal, verb, "instance", i.Name, err)
		case !held:
			return nil, messages.NewError(messages.CodeConflict, verb, "instance", i.Name, "another process is serving it")
		case lockCounts(l):
			return l, nil
		}
		_ = l.Unlock() // of a file that nobody else can find
	}
	return nil, messages.NewError(messages.CodeInternal, verb, "instance", i.Name, i.Lock()+" does not stay where it is")
}

// unlockInstance removes the file before it gives the lock back: after that it may be another one's.
func unlockInstance(l *flock.Flock) {
	if lockCounts(l) {
		_ = os.Remove(l.Path())
	}
	_ = l.Unlock()
}

// Held reports whether a process serves the instance. The lock alone says so: a file that names a process may be of another
// time. It creates nothing.
func (i Instance) Held() bool {
	// Shared, so that those who only ask do not see each other; a daemon that starts at this moment does, and is started again.
	l := flock.New(i.Lock(), flock.SetFlag(os.O_RDONLY))
	free, err := l.TryRLock()
	if err != nil {
		return false
	}
	_ = l.Unlock()
	return !free
}

// lockCounts: the locked file is the one at the path.
func lockCounts(l *flock.Flock) bool {
	mine, err := l.Stat()
	if err != nil {
		return false
	}
	there, err := os.Stat(l.Path())
	return err == nil && os.SameFile(mine, there)
}
