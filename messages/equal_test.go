package messages

import (
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// leaves calls f with each value in v that is not made of others, after it has given each pointer, slice and map something to hold.
func leaves(path string, v reflect.Value, f func(path string, v reflect.Value)) {
	switch {
	case v.Type() == reflect.TypeFor[time.Time]():
		f(path, v)
	case v.Kind() == reflect.Pointer:
		if v.IsNil() {
			v.Set(reflect.New(v.Type().Elem()))
		}
		leaves(path, v.Elem(), f)
	case v.Kind() == reflect.Struct:
		for i := range v.NumField() {
			leaves(path+"."+v.Type().Field(i).Name, v.Field(i), f)
		}
	case v.Kind() == reflect.Slice && v.Type().Elem().Kind() != reflect.Uint8:
		if v.Len() == 0 {
			v.Set(reflect.MakeSlice(v.Type(), 1, 1))
		}
		leaves(path+"[0]", v.Index(0), f)
	default:
		f(path, v)
	}
}

// change gives a leaf another value.
func change(t *testing.T, path string, v reflect.Value) {
	switch {
	case v.Type() == reflect.TypeFor[time.Time]():
		v.Set(reflect.ValueOf(v.Interface().(time.Time).Add(time.Hour)))
	case v.Kind() == reflect.String:
		v.SetString(v.String() + "x")
	case v.CanInt():
		v.SetInt(v.Int() + 1)
	case v.Kind() == reflect.Bool:
		v.SetBool(!v.Bool())
	case v.Kind() == reflect.Slice:
		v.SetBytes(append(v.Bytes(), '1'))
	case v.Kind() == reflect.Map:
		more := reflect.MakeMap(v.Type())
		more.SetMapIndex(reflect.ValueOf(strings.Repeat("x", v.Len()+1)), reflect.ValueOf("x"))
		for _, k := range v.MapKeys() {
			more.SetMapIndex(k, v.MapIndex(k))
		}
		v.Set(more)
	default:
		require.Failf(t, "a field of a kind that this test does not know", "%s: %s", path, v.Type())
	}
}

// A field that a comparison forgot would never be updated.
func TestEqualSeesEveryField(t *testing.T) {
	assigned := map[string]bool{".ObjectMeta.UID": true, ".ObjectMeta.CreationTimestamp.Time": true, ".ObjectMeta.ResourceVersion": true}
	for _, kind := range Kinds() {
		fresh := func() Object {
			o := kind.New()
			leaves("", reflect.ValueOf(o).Elem(), func(path string, v reflect.Value) { change(t, path, v) })
			return o
		}
		a := fresh()
		require.True(t, Equal(a, fresh()), kind.Name)
		paths := 0
		leaves("", reflect.ValueOf(a).Elem(), func(path string, _ reflect.Value) {
			paths++
			b := fresh()
			leaves("", reflect.ValueOf(b).Elem(), func(p string, v reflect.Value) {
				if p == path {
					change(t, p, v)
				}
			})
			require.False(t, Equal(a, b), "%s%s is not compared", kind.Name, path)
			require.Equal(t, assigned[path], SameContent(a, b), "%s%s", kind.Name, path)
		})
		require.Greater(t, paths, 20, kind.Name)
	}
}

func TestEqualTakesNilForEmpty(t *testing.T) {
	kind, _ := KindByName(KindContainer)
	a, b := kind.New().(*Container), kind.New().(*Container)
	b.Labels, b.Finalizers, b.Status.Args = map[string]string{}, []string{}, []string{}
	b.Status.Ports, b.Status.Labels, b.Status.ConditionList = []ContainerPort{}, map[string]string{}, []metav1.Condition{}
	require.True(t, Equal(a, b))
	zone := metav1.NewMicroTime(time.Unix(5, 0).In(time.FixedZone("x", 3600)))
	utc := metav1.NewMicroTime(time.Unix(5, 0).UTC())
	a.Status.CreatedAt, b.Status.CreatedAt = &zone, &utc
	require.True(t, Equal(a, b), "the same moment")
	b.Status.CreatedAt = nil
	require.False(t, Equal(a, b))
}
