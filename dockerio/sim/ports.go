package sim

import (
	"cmp"
	"strconv"
	"strings"

	"github.com/rdd-desktop/rdd/messages"
)

// published is a port of the host that leads into a container.
type published struct {
	name    string // "80/tcp"
	address string // of the host; empty = all
	host    int    // 0 = a free one
	now     int    // while it runs
}

func (p published) bindings() []messages.PortBinding {
	host := strconv.Itoa(p.now)
	if p.address != "" {
		return []messages.PortBinding{{HostIP: p.address, HostPort: host}}
	}
	return []messages.PortBinding{{HostIP: "0.0.0.0", HostPort: host}, {HostIP: "::", HostPort: host}}
}

// parsePublished reads "127.0.0.1:8080:80/tcp", "8080:80" or "80".
func parsePublished(text string) (p published, err error) {
	front, port := "", text
	if i := strings.LastIndex(text, ":"); i >= 0 {
		front, port = text[:i], text[i+1:]
	}
	p.name = portName(port)
	if i := strings.LastIndex(front, ":"); i >= 0 {
		p.address, front = front[:i], front[i+1:]
	}
	p.host, err = strconv.Atoi(cmp.Or(front, "0"))
	return p, err
}

// comparePorts is the order of ports: by number, then by protocol.
func comparePorts(a, b string) int {
	numberA, protocolA, _ := strings.Cut(a, "/")
	numberB, protocolB, _ := strings.Cut(b, "/")
	return cmp.Or(cmp.Compare(len(numberA), len(numberB)), cmp.Compare(numberA, numberB), cmp.Compare(protocolA, protocolB))
}

func portName(text string) string {
	if !strings.Contains(text, "/") {
		return text + "/tcp"
	}
	return text
}

// overlaps tells whether two ports of the host cannot be bound at once.
func (p published) overlaps(q published) bool {
	_, protocolP, _ := strings.Cut(p.name, "/")
	_, protocolQ, _ := strings.Cut(q.name, "/")
	return protocolP == protocolQ && (p.address == q.address || p.address == "" || q.address == "")
}
