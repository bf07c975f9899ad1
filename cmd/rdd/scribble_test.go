package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"strconv"

	"github.com/rdd-desktop/rdd/messages"
)

// scribbled is what one command said.
type scribbled struct {
	// Name of the container, and what was asked of it.
	Name, Asked string
	Code        int
	// Generation, State and Policy of the reply; Action is the receipt's id.
	Generation    int64
	State, Policy string
	Action        string
	Err           string
}

const (
	scribbles     = 10
	scribblers    = 20
	scribbledUpon = 10
)

// scribble is a process of its own: it runs ten commands that write, each on another container, and prints what they said. Its argument is
// its number.
func scribble() {
	number, err := strconv.Atoi(os.Args[1])
	if err != nil {
		panic(err)
	}
	enc := json.NewEncoder(os.Stdout)
	for i := range scribbles {
		name := fmt.Sprintf("c%d", (number+i)%scribbledUpon)
		if err := enc.Encode(scribbleOn(name, number, i)); err != nil {
			panic(err)
		}
	}
}

// scribbleOn runs one command: on the lower half of the containers patches of spec.state, on the upper half actions, on all annotations.
func scribbleOn(name string, number, i int) scribbled {
	states, verbs := messages.ContainerStates()[1:], []string{messages.ActionStart, messages.ActionStop, messages.ActionRestart}
	s := scribbled{Name: name, Asked: fmt.Sprintf("p%d-%d", number, i)}
	args := []string{"ctl", "annotate", "container", name, s.Asked + "=yes", "-o", "json"}
	switch {
	case (number+i/2)%2 == 0:
	case name < "c5":
		s.State = states[(number+i)%len(states)]
		s.Asked = "state"
		args = []string{"ctl", "patch", "container", name, "-p", `{"spec":{"state":"` + s.State + `"}}`, "-o", "json"}
	default:
		s.Asked = "action"
		args = []string{"ctl", "action", name, verbs[(number+i)%len(verbs)], "--wait=false", "-o", "json"}
	}
	var out, errOut bytes.Buffer
	s.Code = run(args, &out, &errOut)
	s.Err = errOut.String()
	if s.Code != 0 {
		return s
	}
	if s.Asked == "action" {
		var receipt messages.ActionReceipt
		if err := json.Unmarshal(out.Bytes(), &receipt); err != nil {
			panic(err)
		}
		s.Action = receipt.ID
		return s
	}
	var c messages.Container
	if err := json.Unmarshal(out.Bytes(), &c); err != nil {
		panic(err)
	}
	s.Generation, s.State, s.Policy = c.Generation, c.Spec.State, c.Spec.Policy
	return s
}
