package main

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/rdd-desktop/rdd/messages"
	"github.com/rdd-desktop/rdd/supervisor"
)

// completionLimit is how long the daemon has to tell names to a shell, of the 200 ms a completion may take in all.
const completionLimit = 150 * time.Millisecond

// completer is what cobra asks for completions.
type completer = func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective)

const noFiles = cobra.ShellCompDirectiveNoFileComp

// inTime gives what ask finds within the limit, else nothing: a shell never waits for a daemon that hangs, and never shows an error.
func inTime(ask func(context.Context) ([]string, error)) []string {
	ctx, cancel := context.WithTimeout(context.Background(), completionLimit)
	defer cancel()
	answer := make(chan []string, 1)
	go func() {
		found, err := ask(ctx)
		if err != nil {
			found = nil
		}
		answer <- found
	}()
	select {
	case found := <-answer:
		return found
	case <-ctx.Done():
		return nil
	}
}

// resources completes TYPE, TYPE NAME and TYPE/NAME; single: one name at most.
func (c *cli) resources(single bool) completer {
	return func(_ *cobra.Command, args []string, word string) ([]string, cobra.ShellCompDirective) {
		kind, _, slashed := strings.Cut(word, "/")
		switch {
		case single && (len(args) > 1 || len(args) == 1 && strings.Contains(args[0], "/")):
			return nil, noFiles
		case slashed && (len(args) == 0 || strings.Contains(args[0], "/")):
			return starting(word, inTime(func(ctx context.Context) ([]string, error) { return c.namesOf(ctx, kind, kind+"/") })), noFiles
		case len(args) == 0:
			return starting(word, append(typeWords(), "all")), noFiles
		case strings.Contains(args[0], "/"):
			var out []string
			for _, t := range typeWords() {
				out = append(out, t+"/")
			}
			return starting(word, out), noFiles | cobra.ShellCompDirectiveNoSpace
		}
		found := inTime(func(ctx context.Context) ([]string, error) { return c.namesOf(ctx, args[0], "") })
		return starting(word, slices.DeleteFunc(found, func(name string) bool { return slices.Contains(args[1:], name) })), noFiles
	}
}

func typeWords() []string {
	var out []string
	for _, k := range messages.Kinds() {
		out = append(append(out, k.Plural), strings.ToLower(k.Name))
	}
	return out
}

// namesOf are the names people use for the resources of a kind, each after prefix.
func (c *cli) namesOf(ctx context.Context, kind, prefix string) ([]string, error) {
	k, ok := messages.KindByName(kind)
	if !ok {
		return nil, unknownKind(kind)
	}
	items, err := c.itemsOf(ctx, k)
	if err != nil {
		return nil, err
	}
	var out []string
	for _, o := range items {
		_, name, _ := strings.Cut(messages.NameOf(o), "/")
		out = append(out, prefix+name)
	}
	return out, nil
}

func (c *cli) itemsOf(ctx context.Context, k messages.Kind) (messages.Objects, error) {
	client, err := c.dial(ctx)
	if err != nil {
		return nil, err
	}
	list, err := client.List(ctx, k.Name, supervisor.ListOptions{})
	if err != nil {
		return nil, err
	}
	return list.Items, nil
}

// conditions completes the names of wait-condition and, once there is one, the conditions that resources of its kind have.
func (c *cli) conditions(cmd *cobra.Command, args []string, word string) ([]string, cobra.ShellCompDirective) {
	found, directive := c.resources(false)(cmd, args, word)
	if len(args) == 0 {
		return found, directive
	}
	kind, _, slashed := strings.Cut(args[0], "/")
	k, ok := messages.KindByName(kind)
	if !ok || !slashed && len(args) < 2 {
		return found, directive
	}
	return append(found, starting(word, inTime(func(ctx context.Context) ([]string, error) { return c.conditionsOf(ctx, k) }))...), directive
}

func (c *cli) conditionsOf(ctx context.Context, k messages.Kind) ([]string, error) {
	items, err := c.itemsOf(ctx, k)
	if err != nil {
		return nil, err
	}
	var out []string
	for _, o := range items {
		for _, condition := range o.Conditions() {
			out = append(out, condition.Type)
		}
	}
	slices.Sort(out)
	return slices.Compact(out), nil
}

// files completes files, as a shell does.
func files(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
	return nil, cobra.ShellCompDirectiveDefault
}

// assignments completes PROPERTY=VALUE of set.
func assignments(_ *cobra.Command, args []string, word string) ([]string, cobra.ShellCompDirective) {
	name, _, valued := strings.Cut(word, "=")
	var out []string
	for _, p := range messages.Properties() {
		given := slices.ContainsFunc(args, func(a string) bool { return strings.HasPrefix(a, p.Name+"=") })
		switch {
		case valued && p.Name == name && p.Type == messages.TypeBoolean:
			out = append(out, name+"=true", name+"=false")
		case valued && p.Name == name:
			for _, v := range p.Enum {
				out = append(out, name+"="+v)
			}
		case !valued && !given && !p.Immutable:
			out = append(out, p.Name+"=")
		}
	}
	if !valued {
		return starting(word, out), noFiles | cobra.ShellCompDirectiveNoSpace
	}
	return starting(word, out), noFiles
}

// instanceNames completes --instance.
func instanceNames(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
	return inTime(func(context.Context) ([]string, error) {
		var out []string
		instances, err := supervisor.Instances()
		for _, i := range instances {
			out = append(out, i.Name)
		}
		return out, err
	}), noFiles
}

// starting keeps what begins with word.
func starting(word string, list []string) []string {
	return slices.DeleteFunc(list, func(s string) bool { return !strings.HasPrefix(s, word) })
}

// completeFlag makes a flag complete from a list.
func completeFlag(cmd *cobra.Command, flag string, values ...string) {
	directive := noFiles
	if slices.ContainsFunc(values, func(v string) bool { return strings.HasSuffix(v, "=") }) {
		directive |= cobra.ShellCompDirectiveNoSpace
	}
	completeFlagWith(cmd, flag, func(_ *cobra.Command, _ []string, word string) ([]string, cobra.ShellCompDirective) {
		return starting(word, slices.Clone(values)), directive
	})
}

func completeFlagWith(cmd *cobra.Command, flag string, values completer) {
	if err := cmd.RegisterFlagCompletionFunc(flag, values); err != nil {
		panic(err) // the flag is not there, or has one already: a mistake of the program
	}
}
