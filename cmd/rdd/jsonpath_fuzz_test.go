package main

import (
	"io"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/rdd-desktop/rdd/messages"
)

// Whatever stands in -o jsonpath=, custom-columns= or --sort-by= is refused as a bad request, or it prints any resource or says
// why not; never a crash.
func FuzzJSONPath(f *testing.F) {
	for _, s := range []string{
		"{.metadata.name}", "metadata.name", "{range .status.ports[*]}{.name}{\"\\n\"}{end}", "{.status.ports[?(@.name==\"80/tcp\")].bindings[0].hostPort}",
		"{.metadata.labels.example\\.org/tier}", "{..name}", "{.status.args[-1:]}", "{.status.args[0:9:0]}", "{", "NAME:.metadata.name,X:status.pid",
		"{['metadata','status']['name','x']}", "{range}", "{end}", "{.a..}", "{@}", "{\"", "{.status.ports[?(@)]}",
	} {
		f.Add(s)
	}
	c := &messages.Container{
		TypeMeta:   metav1.TypeMeta{Kind: messages.KindContainer, APIVersion: messages.ContainerAPIVersion},
		ObjectMeta: metav1.ObjectMeta{Name: "c", Labels: map[string]string{"example.org/tier": "db"}},
		Status: messages.ContainerStatus{Name: "web", Args: []string{"a", "b", "c"},
			Ports: []messages.ContainerPort{{Name: "80/tcp", Bindings: []messages.PortBinding{{HostIP: "::", HostPort: "8080"}}}, {Name: "1/udp"}}},
	}
	objects := messages.Objects{c, &messages.App{}}
	f.Fuzz(func(t *testing.T, template string) {
		p, err := newJSONPath(template)
		if err != nil {
			require.ErrorIs(t, err, messages.ErrBadRequest)
		}
		columns, badColumns := customColumns(template)
		if badColumns != nil {
			require.ErrorIs(t, badColumns, messages.ErrBadRequest)
		}
		for _, o := range objects {
			if err == nil {
				first, again := p.print(o, io.Discard), p.print(o, io.Discard)
				require.Equal(t, first == nil, again == nil, "the same each time")
				if found, err := p.values(o); err == nil {
					require.Zero(t, compareValues(found, found))
				}
			}
			for _, column := range columns {
				column.Value(o, time.Time{})
			}
		}
	})
}
