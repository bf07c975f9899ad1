// Command crosscheck type-checks all packages of the module, tests included, for other systems. It reads the sources of what they
// import, and compiles nothing: on a machine with an empty build cache that is minutes less than building or vetting for each.
//
// Usage: crosscheck GOOS…
package main

import (
	"fmt"
	"os"

	"golang.org/x/tools/go/packages"
)

func main() {
	if len(os.Args) < 2 {
		fmt.Fprintln(os.Stderr, "usage: crosscheck GOOS…")
		os.Exit(2)
	}
	bad := false
	for _, goos := range os.Args[1:] {
		found, err := packages.Load(&packages.Config{
			Mode: packages.NeedName | packages.NeedFiles | packages.NeedImports | packages.NeedDeps |
				packages.NeedTypes | packages.NeedTypesInfo | packages.NeedTypesSizes | packages.NeedSyntax,
			Env: append(os.Environ(), "GOOS="+goos, "CGO_ENABLED=0"), Tests: true,
		}, "./...")
		if err != nil {
			fmt.Fprintln(os.Stderr, "crosscheck:", err)
			os.Exit(1)
		}
		fmt.Printf("typecheck %s: %d packages\n", goos, len(found))
		bad = packages.PrintErrors(found) > 0 || bad
	}
	if bad {
		os.Exit(1)
	}
}
