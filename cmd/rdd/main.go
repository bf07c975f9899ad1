// Command rdd runs and asks the background service of a container desktop.
package main

import (
	"io"
	"os"
)

// version is set by the linker: -ldflags "-X main.version=v1.2.3".
var version = "dev"

func main() { os.Exit(run(os.Args[1:], os.Stdout, os.Stderr)) }

// run is the whole command line; it returns the exit code.
func run(args []string, out, errOut io.Writer) int {
	c := &cli{out: out, err: errOut, instance: instanceArg(args)}
	root := newRoot(c)
	root.SetArgs(args)
	err := root.Execute()
	if err != nil && !c.parsed {
		err = usageError(err)
	}
	return report(errOut, err, wantsJSON(args), c.child)
}
