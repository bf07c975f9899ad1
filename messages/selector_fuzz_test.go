package messages

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// specimens are a bare and a full resource of each kind.
func specimens() Objects {
	var all Objects
	for _, k := range Kinds() {
		bare, full := k.New(), k.New()
		full.SetName("web")
		full.SetLabels(map[string]string{"app": "web", "example.org/tier": "db"})
		full.SetAnnotations(map[string]string{"a.b": "c"})
		full.SetGeneration(7)
		all = append(all, bare, full)
	}
	all = append(all, &Container{
		TypeMeta:   metav1.TypeMeta{Kind: KindContainer, APIVersion: ContainerAPIVersion},
		ObjectMeta: metav1.ObjectMeta{Name: "c"},
		Status: ContainerStatus{Name: "web", Labels: map[string]string{"x.y": "z"}, Args: []string{"a"},
			Ports: []ContainerPort{{Name: "80/tcp", Bindings: []PortBinding{{HostPort: "8080"}}}}},
	})
	return all
}

// Whatever a selector says, it is refused as a bad request or it judges each resource, the same way each time; a requirement
// and its opposite never agree.
func FuzzSelector(f *testing.F) {
	for _, s := range [][2]string{
		{"app=web", "status.name=web"}, {"app in (web,db),!x", "metadata.labels.example.org/tier!=db"}, {"==", "=="}, {"a>1", "status=x"},
		{"", `metadata.name=a\,b\=c`}, {"", "metadata.creationTimestamp="}, {"", "status.args.0=a"}, {"", "status.labels.x.y=z"}, {"", "=x"},
	} {
		f.Add(s[0], s[1])
	}
	objects := specimens()
	f.Fuzz(func(t *testing.T, labels, fields string) {
		for _, k := range Kinds() {
			m, err := Selector{Labels: labels, Fields: fields}.Compile(k)
			if err != nil {
				require.ErrorIs(t, err, ErrBadRequest)
				continue
			}
			for _, o := range objects {
				if o.GetObjectKind().GroupVersionKind().Kind != k.Name {
					continue
				}
				require.Equal(t, m.Matches(o), m.Matches(DeepCopy(o)))
				if len(m.fields) != 1 || labels != "" {
					continue
				}
				opposite := *m
				opposite.fields = append(m.fields[:0:0], m.fields...)
				if opposite.fields[0].Operator == "!=" {
					opposite.fields[0].Operator = "="
				} else {
					opposite.fields[0].Operator = "!="
				}
				require.NotEqual(t, m.Matches(o), opposite.Matches(o), "%s of %s", fields, asText(t, o))
			}
		}
	})
}

// Whatever claims to be a resource is refused as invalid, or survives the way to the wire and back.
func FuzzDecodeObject(f *testing.F) {
	for _, o := range specimens() {
		f.Add([]byte(asText(f, o)))
	}
	f.Add([]byte(`{"kind":"Container","apiVersion":"nonsense"}`))
	f.Add([]byte(`{"kind":"container"}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		o, err := DecodeObject(data)
		if err != nil {
			require.ErrorIs(t, err, ErrInvalid)
			return
		}
		text := asText(t, o)
		again, err := DecodeObject([]byte(text))
		require.NoError(t, err)
		require.JSONEq(t, text, asText(t, again))
	})
}

func asText(t testing.TB, o Object) string {
	text, err := json.Marshal(o)
	require.NoError(t, err)
	return string(text)
}
