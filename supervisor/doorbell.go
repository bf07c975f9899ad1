package supervisor

import (
	"fmt"
	"io"
	"net"
	"slices"
	"sync"
	"time"

	grpccreds "google.golang.org/grpc/credentials"
)

// doorbell takes the first connection, our own, for a sign that the server serves. Until then the server writes to gRPC's
// process-wide logger, which the next start of a remote in this process replaces.
//
// Behind it stands a queue of those that have not proved who they are: any process of this host may connect, and each
// connection costs a file descriptor. When there are too many the oldest goes; who has a certificate takes milliseconds.
type doorbell struct {
	grpccreds.TransportCredentials
	once sync.Once
	rung chan struct{}

	mu    sync.Mutex
	queue []net.Conn // oldest first
}

// maxGreeting is the most connections at once that have not proved who they are.
const maxGreeting = 128

func (d *doorbell) ring(address string) error {
	conn, err := net.DialTimeout("tcp", address, time.Second)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	select {
	case <-d.rung:
		return nil
	case <-time.After(5 * time.Second):
		return fmt.Errorf("nobody serves at %s", address)
	}
}

// ServerHandshake implements credentials.TransportCredentials.
func (d *doorbell) ServerHandshake(conn net.Conn) (net.Conn, grpccreds.AuthInfo, error) {
	first := false
	d.once.Do(func() {
		first = true
		close(d.rung)
	})
	if first {
		return nil, nil, io.EOF // the one error that is not logged
	}
	d.enter(conn)
	defer d.leave(conn)
	return d.TransportCredentials.ServerHandshake(conn)
}

func (d *doorbell) enter(conn net.Conn) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.queue) == maxGreeting {
		_ = d.queue[0].Close()
		d.queue = slices.Delete(d.queue, 0, 1)
	}
	d.queue = append(d.queue, conn)
}

func (d *doorbell) leave(conn net.Conn) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if i := slices.Index(d.queue, conn); i >= 0 {
		d.queue = slices.Delete(d.queue, i, i+1)
	}
}
