// Release rehearses a release: it publishes the modules of a tree to a module
// proxy in a temporary directory, and uses them from there as a stranger would.
//
// Usage:
//
//	release [-gorelease program] directory
//
// The directory is the top of the tree. Release publishes each module after
// those that it requires, and after these checks of a copy of it alone:
//
//   - go mod tidy changes nothing, and go mod verify passes.
//   - gorelease accepts the version.
//
// Then, from empty directories and through that proxy:
//
//   - go get gets each module at exactly this release's version, and its
//     packages build.
//   - go install installs each command (a package below the module's cmd),
//     which answers -h. go run does, too.
//   - The Go snippets of README.md compile.
//   - The last release's modules, by its tags, build with this root. A patch
//     and, from v1 on, a minor version must not break them.
//
// Only the last one needs git. Nothing needs a network if the module cache has
// what the modules require.
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
