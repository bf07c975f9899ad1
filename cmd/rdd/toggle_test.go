package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"strconv"

	"github.com/rdd-desktop/rdd/messages"
	"github.com/rdd-desktop/rdd/supervisor"
)

// toggled is the answer to one set.
type toggled struct {
	Asked, Running, Changed bool
	Generation              int64
}

// toggle is a process of its own: it sets running to true and false in turn, as often as told, and prints the answers.
func toggle() {
	if err := toggles(os.Args[1]); err != nil {
		_, _ = fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func toggles(times string) error {
	n, err := strconv.Atoi(times)
	if err != nil {
		return err
	}
	client, err := supervisor.Dial(context.Background(), supervisor.Instance{Name: supervisor.DefaultInstance})
	if err != nil {
		return err
	}
	out := json.NewEncoder(os.Stdout)
	for i := range n {
		asked := i%2 == 0
		reply, err := client.Set(context.Background(), messages.SetRequest{Patch: fmt.Appendf(nil, `{"running":%t}`, asked)})
		if err != nil {
			return err
		}
		if err := out.Encode(toggled{asked, reply.App.Spec.Running, reply.Changed, reply.App.Generation}); err != nil {
			return err
		}
	}
	return nil
}
