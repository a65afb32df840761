// Release rehearses a release: it publishes the modules of a tree to a module
// proxy in a temporary directory, and uses them from there as a stranger would.
//
// Usage:
//
//	release [-gorelease program] directory
//
// The directory is the top of the tree. The modules are published in the order
// in which they need each other, each after these checks of a copy of it alone:
//
//   - go mod tidy changes nothing, and go mod verify passes.
//   - gorelease accepts the version.
//
// Then, from empty directories and through that proxy:
//
//   - go get gets each module, at the version of this release and no other, and
//     its packages build.
//   - go install installs each command (a package below the module's cmd), which
//     answers -h. So does go run.
//   - The Go snippets of README.md compile.
//   - The modules of the release before, by its tags, build with this root. A
//     patch and, from v1 on, a minor version must not break them.
//
// The last one needs git; everything else works without, and without a network
// if the module cache has what the modules require.
package main

import (
	"flag"
	"fmt"
	"os"
)

func main() {
	gorelease := flag.String("gorelease", "", "the `program`; without it, gorelease is not asked")
	flag.Parse()
	if flag.NArg() != 1 {
		flag.Usage()
		os.Exit(2)
	}
	if err := rehearse(os.Stdout, flag.Arg(0), *gorelease); err != nil {
		fmt.Fprintln(os.Stderr, "release:", err)
		os.Exit(1)
	}
}
