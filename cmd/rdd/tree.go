package main

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/rdd-desktop/rdd/messages"
	"github.com/rdd-desktop/rdd/supervisor"
)

const (
	// oddChildren is how many unusual children of a folded family are shown.
	oddChildren = 10
	treePause   = time.Second
)

// usualStates need no attention: a folded family does not show children in them.
var usualStates = []string{"", "-", "Idle", "Live", "Mirrored", "Ready", "Running", "Started", "Synced", "InSync", "Settled"}

func newTree(c *cli) *cobra.Command {
	var all, watch bool
	var output string
	cmd := &cobra.Command{
		Use: "tree", Short: "Print the tree of actors: states, restarts, last failures", Args: cobra.NoArgs,
		Long: "Print the tree of actors: states, restarts, last failures. A large family shows only the children that need attention.",
	}
	cmd.RunE = func(cmd *cobra.Command, _ []string) error { return c.tree(cmd.Context(), all, watch, output == "json") }
	cmd.Flags().BoolVar(&all, "all", false, "every actor")
	cmd.Flags().BoolVarP(&watch, "watch", "w", false, "print it again when it changes")
	outputFlag(cmd, &output, "json")
	return cmd
}

func (c *cli) tree(ctx context.Context, all, watch, asJSON bool) error {
	l, err := c.link(ctx)
	if err != nil {
		return err
	}
	last := ""
	for {
		var root *messages.TreeNode
		err := l.repeatIf(ctx, watch, func(client *supervisor.Client) (err error) {
			ctx, cancel := request(ctx)
			defer cancel()
			root, err = client.Tree(ctx)
			return err
		})
		if err != nil {
			return err
		}
		if asJSON && !watch {
			return c.printJSON(root)
		}
		if text := renderTree(root, all, time.Now()); asJSON {
			if err := c.printJSONLine(root); err != nil {
				return err
			}
		} else if text != last {
			switch {
			case watch && isTerminal(c.out):
				c.printf("\x1b[H\x1b[2J")
			case last != "":
				c.printf("\n")
			}
			c.printf("%s", text)
			last = text
		}
		if !watch {
			return nil
		}
		if err := pause(ctx, treePause); err != nil {
			return err
		}
	}
}

// treeLine is one line before it is aligned.
type treeLine struct{ name, state, restarts, rest string }

func renderTree(root *messages.TreeNode, all bool, now time.Time) string {
	lines := treeLines(nil, root, "", "", all, now)
	var nameWidth, stateWidth, restartsWidth int
	for _, l := range lines {
		nameWidth = max(nameWidth, len([]rune(l.name)))
		stateWidth = max(stateWidth, len([]rune(l.state)))
		restartsWidth = max(restartsWidth, len(l.restarts))
	}
	var b bytes.Buffer
	for _, l := range lines {
		text := fmt.Sprintf("%-*s  %-*s  %-*s  %s", nameWidth, l.name, stateWidth, l.state, restartsWidth, l.restarts, l.rest)
		b.WriteString(strings.TrimRight(printable(text), " ") + "\n")
	}
	return b.String()
}

func treeLines(to []treeLine, n *messages.TreeNode, head, below string, all bool, now time.Time) []treeLine {
	shown, hidden := n.Children, 0
	folded := !all && strings.HasSuffix(n.State, " children") // a supervisor of objects says how many it has
	if folded {
		shown = slices.DeleteFunc(slices.Clone(n.Children), usual)
		if len(shown) > oddChildren {
			hidden = len(shown) - oddChildren
			shown = shown[:oddChildren]
		}
	}
	to = append(to, nodeLine(n, head, now))
	if below == "" {
		below = "\x00"
	}
	for i := range shown {
		branch, next := "├─ ", "│  "
		if i == len(shown)-1 && hidden == 0 {
			branch, next = "└─ ", "   "
		}
		prefix := strings.TrimPrefix(below, "\x00")
		to = treeLines(to, &shown[i], prefix+branch, prefix+next, all, now)
	}
	if hidden > 0 {
		to = append(to, treeLine{name: strings.TrimPrefix(below, "\x00") + "└─ … " + strconv.Itoa(hidden) + " more like these (--all)"})
	}
	return to
}

func nodeLine(n *messages.TreeNode, head string, now time.Time) treeLine {
	l := treeLine{name: head + nodeName(n.Path), state: n.State, restarts: "restarts " + strconv.Itoa(n.Restarts)}
	var rest []string
	if n.Last != "" {
		last := "last: " + firstLine(n.Last)
		if n.LastAt != nil {
			last += " " + short(now.Sub(n.LastAt.Time).Truncate(time.Second)) + " ago"
		}
		rest = append(rest, last)
	}
	if n.Detail != "" {
		rest = append(rest, n.Detail)
	}
	for _, r := range n.Retries {
		rest = append(rest, r.What+": "+triesText(r, now))
	}
	l.rest = strings.Join(rest, "   ")
	return l
}

// usual reports whether a node and everything below it need no attention.
func usual(n messages.TreeNode) bool {
	return n.Restarts == 0 && n.Last == "" && len(n.Retries) == 0 && slices.Contains(usualStates, n.State) &&
		!slices.ContainsFunc(n.Children, func(c messages.TreeNode) bool { return !usual(c) })
}

// nodeName is the last part of the path; long ids are cut.
func nodeName(path string) string {
	name := path[strings.LastIndexByte(path, '/')+1:]
	const most = 24
	if len(name) > most && isHex(strings.TrimPrefix(strings.TrimPrefix(name, "sha256:"), "vol-")) {
		return strings.TrimPrefix(name, "sha256:")[:12] + "…"
	}
	return name
}

func isHex(s string) bool { return s != "" && strings.Trim(s, "0123456789abcdef") == "" }

func firstLine(s string) string {
	line, _, _ := strings.Cut(s, "\n")
	return line
}
