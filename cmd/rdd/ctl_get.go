package main

import (
	"context"
	"errors"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/rdd-desktop/rdd/messages"
	"github.com/rdd-desktop/rdd/supervisor"
)

// getOptions are the flags of ctl get and ctl watch.
type getOptions struct {
	print           printOptions
	selector        messages.Selector
	scope           scope
	watch           bool
	watchOnly       bool
	bookmarks       bool
	resourceVersion string
	sortBy          string
	ignoreNotFound  bool
}

func newGet(c *cli) *cobra.Command {
	var o getOptions
	cmd := &cobra.Command{
		Use:   "get TYPE[,TYPE] | TYPE NAME… | TYPE/NAME…",
		Short: "Print resources",
		Example: "  rdd ctl get containers\n  rdd ctl get container/web -o yaml\n  rdd ctl get images -w\n" +
			"  rdd ctl get containers -l app=web -o jsonpath='{.items[*].status.name}'",
		RunE: func(cmd *cobra.Command, args []string) error { return c.get(cmd.Context(), args, &o) },
	}
	o.flags(c, cmd)
	cmd.Flags().BoolVarP(&o.watch, "watch", "w", false, "go on with every change")
	return cmd
}

func newWatch(c *cli) *cobra.Command {
	o := getOptions{watch: true}
	cmd := &cobra.Command{
		Use:   "watch TYPE[,TYPE] | TYPE NAME… | TYPE/NAME…",
		Short: "Print resources and every change of them",
		Long: "Print resources and every change of them, as ctl get -w does. A lost connection to the daemon is made again for a\n" +
			"minute; what changed meanwhile is printed. When the history no longer reaches back, the resources are listed again.",
		RunE: func(cmd *cobra.Command, args []string) error { return c.get(cmd.Context(), args, &o) },
	}
	o.flags(c, cmd)
	cmd.Flags().StringVar(&o.resourceVersion, "resource-version", "", "begin with the changes after this version; fails when they are gone")
	cmd.Flags().BoolVar(&o.bookmarks, "bookmarks", false, "print bookmarks too (implies --output-watch-events)")
	return cmd
}

func (o *getOptions) flags(c *cli, cmd *cobra.Command) {
	cmd.ValidArgsFunction = c.resources(false)
	f := cmd.Flags()
	f.StringVarP(&o.print.output, "output", "o", "", "output format: "+resourceFormats)
	f.StringVarP(&o.selector.Labels, "selector", "l", "", "label selector, e.g. app=web,tier!=db")
	f.StringVar(&o.selector.Fields, "field-selector", "", "field selector, e.g. status.status=running")
	f.StringVarP(&o.scope.namespace, "namespace", "n", "", "only resources of this namespace")
	f.BoolVarP(&o.scope.all, "all-namespaces", "A", false, "resources of all namespaces, with a column for them")
	f.BoolVar(&o.watchOnly, "watch-only", false, "only changes from now on")
	f.BoolVar(&o.print.withEvents, "output-watch-events", false, "show the type of each change")
	f.StringVar(&o.sortBy, "sort-by", "", "sort by a JSONPath expression, e.g. .status.createdAt")
	f.BoolVar(&o.print.noHeaders, "no-headers", false, "no headers in tables")
	f.BoolVar(&o.ignoreNotFound, "ignore-not-found", false, "succeed when there is no resource of that name")
	completeFlag(cmd, "output", strings.Split(strings.ReplaceAll(resourceFormats, "…", ""), "|")...)
}

func (c *cli) get(ctx context.Context, args []string, o *getOptions) error {
	targets, err := parseTargets(args)
	if err != nil {
		return err
	}
	if err := checkSelector(targets, o.selector); err != nil {
		return err
	}
	o.watch = o.watch || o.watchOnly
	o.print.allNamespaces = o.scope.all
	o.print.withKind = severalKinds(targets)
	o.print.withEvents = o.watch && (o.print.withEvents || o.bookmarks)
	if o.resourceVersion != "" && len(targets) > 1 && !o.watch {
		return badRequest("--resource-version needs a watch")
	}
	var order *path
	if o.sortBy != "" {
		p, err := relaxedPath(o.sortBy)
		if err != nil {
			return err
		}
		order = &p
	}
	p, err := newPrinter(c.out, o.print)
	if err != nil {
		return err
	}
	l, err := c.link(ctx)
	if err != nil {
		return err
	}
	if o.watch {
		if order != nil {
			c.notef("a watch is not sorted: --sort-by is ignored")
		}
		return c.watch(ctx, l, targets, p, o)
	}
	return c.getOnce(ctx, l.client, targets, p, order, o)
}

func (c *cli) getOnce(ctx context.Context, client *supervisor.Client, targets []target, p printer, order *path, o *getOptions) error {
	out := listing{single: len(targets) == 1 && named(targets)}
	var errs []error
	for _, t := range targets {
		items, version, err := fetch(ctx, client, t, o)
		switch {
		case o.ignoreNotFound && errors.Is(err, messages.ErrNotFound):
		case err != nil && t.name == "":
			return err
		case err != nil:
			errs = append(errs, err)
		default:
			out.items, out.version = append(out.items, items...), version
		}
	}
	if order != nil {
		if err := sortBy(out.items, *order); err != nil {
			return err
		}
	}
	if len(out.items) == 0 && named(targets) {
		return together(errs)
	}
	if len(out.items) == 0 && c.isTable(o.print.output) {
		c.nothingFound(o.scope)
		return together(errs)
	}
	if err := p.list(out); err != nil {
		return err
	}
	return together(errs)
}

func (c *cli) isTable(output string) bool {
	return output == "" || output == "table" || output == "wide" || strings.HasPrefix(output, "custom-columns")
}

func (c *cli) nothingFound(s scope) {
	if s.namespace != "" && !s.all {
		c.notef("No resources found in %s namespace.", s.namespace)
		return
	}
	c.notef("No resources found")
}

// fetch gets what a target stands for, and the version it is of.
func fetch(ctx context.Context, client *supervisor.Client, t target, o *getOptions) ([]messages.Object, string, error) {
	if t.name == "" {
		list, err := client.List(ctx, t.kind.Name, supervisor.ListOptions{Selector: o.selector})
		if err != nil {
			return nil, "", err
		}
		items := slices.DeleteFunc(list.Items, func(r messages.Object) bool { return !o.scope.holds(r) })
		return items, list.ResourceVersion, nil
	}
	ctx, cancel := request(ctx)
	defer cancel()
	r, err := client.Get(ctx, t.kind.Name, t.name)
	if err != nil {
		return nil, "", err
	}
	if !o.scope.holds(r) {
		return nil, "", notFound("get", t)
	}
	return []messages.Object{r}, "", nil
}

// sortBy sorts resources by what the path finds in each.
func sortBy(items []messages.Object, by path) error {
	keys := make(map[messages.Object][]any, len(items))
	for _, o := range items {
		values, err := by.values(o)
		if err != nil {
			return badRequest("sort by %s: %v", by.template, err)
		}
		keys[o] = values
	}
	slices.SortStableFunc(items, func(a, b messages.Object) int { return compareValues(keys[a], keys[b]) })
	return nil
}

func newAPIResources(c *cli) *cobra.Command {
	var output string
	cmd := &cobra.Command{
		Use: "api-resources", Short: "Print the kinds of resources", Args: cobra.NoArgs,
	}
	cmd.RunE = func(*cobra.Command, []string) error {
		lines := [][]string{{"NAME", "SHORTNAMES", "APIVERSION", "NAMESPACED", "KIND"}}
		type row struct {
			Name       string   `json:"name"`
			ShortNames []string `json:"shortNames"`
			APIVersion string   `json:"apiVersion"`
			Namespaced bool     `json:"namespaced"`
			Kind       string   `json:"kind"`
		}
		var all []row
		for _, k := range messages.Kinds() {
			r := row{k.Plural, k.Aliases, k.APIVersion, k.Name != messages.KindApp, k.Name}
			all = append(all, r)
			lines = append(lines, []string{r.Name, strings.Join(r.ShortNames, ","), r.APIVersion, yesNo(r.Namespaced), r.Kind})
		}
		switch output {
		case "json":
			return c.printJSON(all)
		case "name":
			for _, r := range all {
				c.printf("%s\n", r.Name)
			}
			return nil
		}
		rows(c.out, lines)
		return nil
	}
	outputFlag(cmd, &output, "json", "name")
	return cmd
}

func yesNo(b bool) string {
	if b {
		return "true"
	}
	return "false"
}
