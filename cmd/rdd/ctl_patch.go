package main

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"

	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/util/yaml"

	"github.com/rdd-desktop/rdd/messages"
)

// maxInput is the most bytes of a patch or a file of resources: more does not fit into a request.
const maxInput = messages.MaxFrameBytes

type patchOptions struct {
	writeOptions
	kind string
	text string
	file string
}

func newPatch(c *cli) *cobra.Command {
	var o patchOptions
	cmd := &cobra.Command{
		Use:   "patch (TYPE NAME | TYPE/NAME) (-p PATCH | --patch-file FILE)",
		Short: "Change fields of a resource by a patch",
		Long: "Change fields of a resource by a JSON merge patch (--type merge) or a JSON patch (--type json), written as JSON or YAML.\n\n" +
			"What can be changed: spec.state and spec.policy of a container; labels, annotations and foreign finalizers of containers,\n" +
			"images and volumes; the spec of the App but for its namespace. Anything else is rejected by name.",
		Example: "  rdd ctl patch container web -p '{\"spec\":{\"state\":\"running\"}}'\n" +
			"  rdd ctl patch container/web --type json -p '[{\"op\":\"replace\",\"path\":\"/spec/policy\",\"value\":\"Enforce\"}]'",
	}
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		return c.patch(cmd.Context(), cmd.InOrStdin(), args, &o)
	}
	cmd.ValidArgsFunction = c.resources(true)
	f := cmd.Flags()
	f.StringVar(&o.kind, "type", messages.PatchMerge, "type of the patch: merge|json")
	f.StringVarP(&o.text, "patch", "p", "", "the patch")
	f.StringVar(&o.file, "patch-file", "", "file with the patch; - is stdin")
	completeFlagWith(cmd, "patch-file", files)
	completeFlag(cmd, "type", messages.PatchMerge, messages.PatchJSON)
	o.flags(cmd)
	return cmd
}

func (c *cli) patch(ctx context.Context, stdin io.Reader, args []string, o *patchOptions) error {
	t, err := parseOneTarget(args)
	if err != nil {
		return err
	}
	if o.kind != messages.PatchMerge && o.kind != messages.PatchJSON {
		return badRequest("unknown type of patch %q: want %s or %s", o.kind, messages.PatchMerge, messages.PatchJSON)
	}
	if o.text != "" && o.file != "" {
		return badRequest("-p and --patch-file exclude each other")
	}
	data := []byte(o.text)
	if o.file != "" {
		if data, err = readInput(stdin, o.file); err != nil {
			return err
		}
	}
	if len(data) == 0 {
		return badRequest("which change? Give -p PATCH or --patch-file FILE")
	}
	r := o.request(t)
	r.PatchType = o.kind
	if r.Patch, err = yaml.ToJSON(data); err == nil && !json.Valid(r.Patch) {
		err = errors.New("neither JSON nor YAML") // what looks like JSON is not read
	}
	if err != nil {
		return badRequest("malformed patch: %v", err)
	}
	out, err := c.newOutcome(&o.writeOptions)
	if err != nil {
		return err
	}
	client, err := c.dial(ctx)
	if err != nil {
		return err
	}
	reply, err := c.writeOne(ctx, client, r)
	if err != nil {
		return err
	}
	return out.tell(reply, changedWord(reply, "patched", "patched (no change)"))
}

func changedWord(r *messages.WriteReply, changed, not string) string {
	if r.Changed {
		return changed
	}
	return not
}

// readInput reads a file, or stdin for "-". Error: BadRequest.
func readInput(stdin io.Reader, name string) ([]byte, error) {
	from := stdin
	if name != "-" {
		f, err := os.Open(name)
		if err != nil {
			return nil, badRequest("%v", err)
		}
		defer func() { _ = f.Close() }()
		from = f
	}
	data, err := io.ReadAll(io.LimitReader(from, maxInput+1))
	switch {
	case err != nil:
		return nil, badRequest("read %s: %v", name, err)
	case len(data) > maxInput:
		return nil, badRequest("%s has more than %d bytes", name, maxInput)
	}
	return data, nil
}
