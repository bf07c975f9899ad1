package messages

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
)

// Property is one settable field of App.spec, as people see it: rdd set virtualMachine.cpus=4.
type Property struct {
	// Name is the dotted path, e.g. "virtualMachine.cpus".
	Name string
	// Type is "boolean", "integer" or "string".
	Type string
	// Enum has the valid values of a string; empty = any.
	Enum []string
	// Default as text; "" for an empty string.
	Default string
	// Help is one line.
	Help string
	// Immutable properties are fixed when the instance is created.
	Immutable bool

	index []int
	bits  int
}

// Valid is which values are valid, for people.
func (p Property) Valid() string {
	switch {
	case p.Immutable:
		return "fixed"
	case p.Name == socketProperty:
		return "path|unix://…|tcp://…"
	case len(p.Enum) > 0:
		return strings.Join(p.Enum, "|")
	case p.Type == TypeBoolean:
		return "true|false"
	case p.Type == TypeInteger:
		return "0 or more"
	}
	return "any"
}

// Types of a Property.
const (
	TypeBoolean = "boolean"
	TypeInteger = "integer"
	TypeString  = "string"
)

// socketProperty has a grammar of its own.
const socketProperty = "virtualMachine.socket"

// MaxSocketPath is the most bytes a unix socket's path may have on every system we run on.
const MaxSocketPath = 104

// What reflection cannot know of a property. A test holds that every field of AppSpec has an entry here and that there is
// no other.
var propertyNotes = map[string]struct {
	help      string
	enum      []string
	immutable bool
}{
	"running":               {help: "whether the VM and its container engine shall run"},
	"containerEngine.name":  {help: "the container engine", enum: []string{EngineMoby, EngineContainerd}},
	"namespace":             {help: "metadata.namespace of every mirrored resource", immutable: true},
	"virtualMachine.driver": {help: "where the engine lives", enum: []string{DriverAuto, DriverLima, DriverNative, DriverExternal, DriverSimulated}},
	"virtualMachine.cpus":   {help: "CPUs of the VM; 0 = the driver's default"},
	"virtualMachine.memory": {help: "memory of the VM in MiB; 0 = the driver's default"},
	"virtualMachine.disk":   {help: "disk of the VM in GiB; 0 = the driver's default"},
	"virtualMachine.image":  {help: "disk image of the VM; empty = the driver's default"},
	socketProperty:          {help: "socket of the engine (driver external): an absolute path, unix://… or tcp://…; empty = DOCKER_HOST, else the current context"},
}

var properties = collectProperties()

// DefaultAppSpec is the spec of a new instance.
func DefaultAppSpec() AppSpec {
	return AppSpec{
		ContainerEngine: ContainerEngineSpec{Name: EngineMoby},
		Namespace:       DefaultNamespace,
		VirtualMachine:  VirtualMachineSpec{Driver: DriverAuto},
	}
}

// Properties lists every property of App.spec, in the order of the type.
func Properties() []Property { return slices.Clone(properties) }

// PropertyByName finds a property by its dotted path.
func PropertyByName(name string) (Property, bool) {
	i := slices.IndexFunc(properties, func(p Property) bool { return p.Name == name })
	if i < 0 {
		return Property{}, false
	}
	return properties[i], true
}

// PropertyNames lists the names of all properties.
func PropertyNames() []string {
	names := make([]string, len(properties))
	for i, p := range properties {
		names[i] = p.Name
	}
	return names
}

func collectProperties() []Property {
	var out []Property
	defaults := reflect.ValueOf(DefaultAppSpec())
	var walk func(t reflect.Type, prefix string, index []int)
	walk = func(t reflect.Type, prefix string, index []int) {
		for i := range t.NumField() {
			f := t.Field(i)
			tag, _, _ := strings.Cut(f.Tag.Get("json"), ",")
			name, at := prefix+tag, append(slices.Clone(index), i)
			p := Property{Name: name, index: at}
			switch f.Type.Kind() {
			case reflect.Struct:
				walk(f.Type, name+".", at)
				continue
			case reflect.Bool:
				p.Type = TypeBoolean
			case reflect.Int, reflect.Int32, reflect.Int64:
				p.Type, p.bits = TypeInteger, f.Type.Bits()
			case reflect.String:
				p.Type = TypeString
			default:
				panic("messages: AppSpec field " + name + " has a type that no property can have: " + f.Type.String())
			}
			note := propertyNotes[name]
			p.Help, p.Enum, p.Immutable = note.help, note.enum, note.immutable
			p.Default = fmt.Sprint(defaults.FieldByIndex(at).Interface())
			out = append(out, p)
		}
	}
	walk(reflect.TypeFor[AppSpec](), "", nil)
	return out
}

// Value of a property in spec, as text; "" for an unknown one.
func Value(spec AppSpec, name string) string {
	p, ok := PropertyByName(name)
	if !ok {
		return ""
	}
	return fmt.Sprint(reflect.ValueOf(spec).FieldByIndex(p.index).Interface())
}

// ParseAssignments makes the merge patch of App.spec from PROP=VALUE arguments. Errors are Invalid and name what is valid.
func ParseAssignments(args []string) (json.RawMessage, error) {
	patch := map[string]any{}
	seen := map[string]bool{}
	for _, arg := range args {
		name, text, ok := strings.Cut(arg, "=")
		if !ok || name == "" {
			return nil, invalidProperty(arg, "want PROPERTY=VALUE with one of "+strings.Join(PropertyNames(), ", "))
		}
		p, ok := PropertyByName(name)
		if !ok {
			return nil, UnknownProperty(name)
		}
		if seen[name] {
			return nil, invalidProperty(name, "given twice")
		}
		seen[name] = true
		value, err := p.parse(text)
		if err != nil {
			return nil, err
		}
		if err := p.Check(value); err != nil {
			return nil, err
		}
		m, path := patch, strings.Split(name, ".")
		for _, group := range path[:len(path)-1] {
			if m[group] == nil {
				m[group] = map[string]any{}
			}
			m = m[group].(map[string]any)
		}
		m[path[len(path)-1]] = value
	}
	return json.Marshal(patch)
}

func (p Property) parse(text string) (any, error) {
	switch p.Type {
	case TypeBoolean:
		if text == "true" || text == "false" {
			return text == "true", nil
		}
		return nil, p.wrongType(strconv.Quote(text))
	case TypeInteger:
		n, err := strconv.ParseInt(text, 10, p.bits)
		if err != nil {
			return nil, p.wrongType(strconv.Quote(text))
		}
		return n, nil
	}
	return text, nil
}

func (p Property) wrongType(got string) error {
	want := "a " + p.Type
	switch p.Type {
	case TypeBoolean:
		want = "true or false"
	case TypeInteger:
		want = fmt.Sprintf("a whole number from 0 to %d", uint64(1)<<(p.bits-1)-1)
	}
	return invalidProperty(p.Name, "want "+want+", got "+got)
}

// Check checks one value: its type (bool, int64, json.Number, string) and whether it is valid by itself. Error: Invalid.
func (p Property) Check(value any) error {
	switch v := value.(type) {
	case bool:
		if p.Type == TypeBoolean {
			return nil
		}
		return p.wrongType(fmt.Sprint(v))
	case json.Number:
		if p.Type != TypeInteger {
			return p.wrongType(v.String())
		}
		n, err := strconv.ParseInt(v.String(), 10, p.bits)
		if err != nil {
			return p.wrongType(v.String())
		}
		return p.Check(n)
	case int64:
		if p.Type != TypeInteger || v < 0 {
			return p.wrongType(fmt.Sprint(v))
		}
		return nil
	case string:
		if p.Type != TypeString {
			return p.wrongType(strconv.Quote(v))
		}
		if len(p.Enum) > 0 && !slices.Contains(p.Enum, v) {
			return invalidProperty(p.Name, fmt.Sprintf("%q is not valid: want one of %s", v, strings.Join(p.Enum, ", ")))
		}
		if p.Name == socketProperty {
			return checkSocket(p.Name, v)
		}
		return nil
	}
	data, _ := json.Marshal(value)
	return p.wrongType(string(data))
}

// ValidateAppSpec checks every property of a spec by itself. What depends on drivers is checked by the app actor. Error: Invalid.
func ValidateAppSpec(spec AppSpec) error {
	v := reflect.ValueOf(spec)
	for _, p := range properties {
		f := v.FieldByIndex(p.index)
		value := f.Interface()
		if p.Type == TypeInteger {
			value = f.Int()
		}
		if err := p.Check(value); err != nil {
			return err
		}
	}
	if spec.Namespace == "" {
		return invalidProperty("namespace", "must not be empty")
	}
	return nil
}

func checkSocket(name, v string) error {
	if v == "" {
		return nil
	}
	scheme, rest, ok := strings.Cut(v, "://")
	if !ok {
		scheme, rest = "unix", v
	}
	switch scheme {
	case "unix":
		if !filepath.IsAbs(rest) && !strings.HasPrefix(rest, "/") {
			return invalidProperty(name, fmt.Sprintf("%q is not an absolute path (nor a unix:// or tcp:// address)", v))
		}
		if len(rest) > MaxSocketPath {
			return invalidProperty(name, fmt.Sprintf("%q is %d bytes long: a socket's path has at most %d", v, len(rest), MaxSocketPath))
		}
	case "tcp", "npipe":
		if rest == "" {
			return invalidProperty(name, fmt.Sprintf("%q has no address", v))
		}
	default:
		return invalidProperty(name, fmt.Sprintf("%q has the unknown scheme %q: want an absolute path, unix://, tcp:// or npipe://", v, scheme))
	}
	if strings.ContainsFunc(v, func(r rune) bool { return r < ' ' || r == 0x7f }) {
		return invalidProperty(name, fmt.Sprintf("%q has a control character", v))
	}
	return nil
}

// UnknownProperty is the error for a name that is no property; it lists those that are.
func UnknownProperty(name string) error {
	return invalidProperty(name, "no such property; valid are "+strings.Join(PropertyNames(), ", "))
}

func invalidProperty(name, why string) error {
	return NewError(CodeInvalid, "set", "property", name, why)
}
