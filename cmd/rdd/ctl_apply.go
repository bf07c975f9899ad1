package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/util/yaml"

	"github.com/rdd-desktop/rdd/messages"
)

type applyOptions struct {
	writeOptions
	files []string
}

func newApply(c *cli) *cobra.Command {
	var o applyOptions
	cmd := &cobra.Command{
		Use:   "apply -f FILE…",
		Short: "Make resources what files say",
		Long: "Make resources what files say: YAML or JSON, several documents a file, a List counts as its items. Fields that a document does not\n" +
			"have stay as they are; status is left out, so that what ctl get -o yaml printed can be edited and applied. A uid or\n" +
			"resourceVersion in a document must be the resource's.\n\n" +
			"A container, image or volume that is not there is created as a skeleton: a resource with no object of the engine behind it.",
		Example: "  rdd ctl apply -f web.yaml\n  rdd ctl get container web -o yaml | sed 's/state: .*/state: running/' | rdd ctl apply -f -",
		Args:    cobra.NoArgs,
	}
	cmd.RunE = func(cmd *cobra.Command, _ []string) error { return c.apply(cmd.Context(), cmd.InOrStdin(), &o) }
	f := cmd.Flags()
	f.StringArrayVarP(&o.files, "filename", "f", nil, "file with resources; - is stdin")
	completeFlagWith(cmd, "filename", files)
	f.BoolVar(&o.dryRun, "dry-run", false, "check everything as the real thing does, show what would be, change nothing")
	outputFlag(cmd, &o.output, "json", "yaml", "name")
	return cmd
}

// apply reads everything before it changes anything: a file that is malformed at its end changes nothing.
func (c *cli) apply(ctx context.Context, stdin io.Reader, o *applyOptions) error {
	if len(o.files) == 0 {
		return badRequest("apply what? Give -f FILE, or -f - for stdin")
	}
	var all []document
	for _, name := range o.files {
		data, err := readInput(stdin, name)
		if err != nil {
			return err
		}
		found, err := parseDocuments(data)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		if len(found) == 0 {
			return badRequest("%s: there is no resource in it", name)
		}
		all = append(all, found...)
	}
	out, err := c.newOutcome(&o.writeOptions)
	if err != nil {
		return err
	}
	client, err := c.dial(ctx)
	if err != nil {
		return err
	}
	var errs []error
	for _, d := range all {
		r := o.request(d.target)
		r.Patch, r.Create = d.patch, d.target.kind.Mirrored
		reply, err := c.writeOne(ctx, client, r)
		if err == nil {
			word := changedWord(reply, "configured", "unchanged")
			if reply.Created {
				word = "created"
			}
			err = out.tell(reply, word)
		}
		if err != nil {
			errs = append(errs, err)
		}
	}
	return together(errs)
}

// document is one resource of a file: whose it is, and what it says.
type document struct {
	target target
	patch  json.RawMessage
}

// parseDocuments reads the resources of a file. Error: BadRequest, Invalid.
func parseDocuments(data []byte) ([]document, error) {
	decoder := yaml.NewYAMLOrJSONDecoder(bytes.NewReader(data), 4096)
	var out []document
	for n := 1; ; n++ {
		var fields map[string]any
		err := decoder.Decode(&fields)
		if errors.Is(err, io.EOF) {
			return out, nil
		}
		if err != nil {
			return nil, badRequest("document %d: %v", n, err)
		}
		found, err := documentsOf(fields)
		if err != nil {
			return nil, fmt.Errorf("document %d: %w", n, err)
		}
		out = append(out, found...)
	}
}

// documentsOf is one document, or those of a List; none of an empty one.
func documentsOf(fields map[string]any) ([]document, error) {
	if len(fields) == 0 {
		return nil, nil
	}
	kind, _ := fields["kind"].(string)
	if kind == "List" {
		items, _ := fields["items"].([]any)
		var out []document
		for _, i := range items {
			item, ok := i.(map[string]any)
			if !ok {
				return nil, badRequest("an item of the list is no resource")
			}
			found, err := documentsOf(item)
			if err != nil {
				return nil, err
			}
			out = append(out, found...)
		}
		return out, nil
	}
	d, err := documentOf(kind, fields)
	if err != nil {
		return nil, err
	}
	return []document{d}, nil
}

// ofTheDaemon are fields of metadata that only the daemon writes: they may stand in a file, and say nothing.
var ofTheDaemon = []string{"name", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds", "generation", "managedFields", "selfLink"}

func documentOf(kind string, fields map[string]any) (document, error) {
	k, ok := messages.KindByName(kind)
	if !ok || k.Name != kind {
		return document{}, badRequest("unknown kind %q", kind)
	}
	if v, _ := fields["apiVersion"].(string); v != k.APIVersion {
		return document{}, messages.NewError(messages.CodeInvalid, "apply", kind, "", fmt.Sprintf("apiVersion is %q: valid is %s", v, k.APIVersion))
	}
	metadata, _ := fields["metadata"].(map[string]any)
	name, _ := metadata["name"].(string)
	if name == "" {
		return document{}, messages.NewError(messages.CodeInvalid, "apply", kind, "", "metadata.name is missing")
	}
	for _, f := range ofTheDaemon {
		delete(metadata, f)
	}
	for _, f := range []string{"kind", "apiVersion", "status"} {
		delete(fields, f)
	}
	patch, err := json.Marshal(fields)
	if err != nil {
		return document{}, badRequest("%s: %v", name, err)
	}
	return document{target{k, name}, patch}, nil
}
