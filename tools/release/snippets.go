package main

import (
	"bytes"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"path"
	"slices"
	"strings"
)

// A snippet is a block of Go code in a Markdown file.
type snippet struct {
	line int // of the file, where the block begins
	code string
}

// snippets returns the blocks between ```go and ```.
func snippets(markdown string) (found []snippet) {
	inside, n := false, 0
	for line := range strings.Lines(markdown) {
		n++
		switch text := strings.TrimSpace(line); {
		case text == "```go":
			inside = true
			found = append(found, snippet{line: n})
		case strings.HasPrefix(text, "```"):
			inside = false
		case inside:
			found[len(found)-1].code += line
		}
	}
	return found
}

// leftToReaders has the packages that our pages use and our modules don't
// require.
var leftToReaders = map[string]string{"websocket": "github.com/coder/websocket"}

// program returns the snippet as a program. It imports the packages that the
// snippet uses, ours before the standard library's. A snippet with a package
// clause is a program already.
func (s snippet) program(own, standard []string) ([]byte, error) {
	if strings.HasPrefix(s.code, "package ") {
		return []byte(s.code), nil
	}
	body := "func main() {\n" + s.code + "}\n"
	file, err := parser.ParseFile(token.NewFileSet(), "", "package main\n"+body, 0)
	if err != nil {
		return nil, err
	}
	var program bytes.Buffer
	program.WriteString("package main\n\nimport (\n")
	for _, name := range packageNames(file) {
		imported, err := resolve(name, own, standard)
		if err != nil {
			return nil, err
		}
		fmt.Fprintf(&program, "\t%q\n", imported)
	}
	program.WriteString(")\n\n" + body)
	return program.Bytes(), nil
}

// packageNames returns the names before a dot that the file doesn't declare.
func packageNames(file *ast.File) (names []string) {
	ast.Inspect(file, func(n ast.Node) bool {
		if selector, ok := n.(*ast.SelectorExpr); ok {
			if name, ok := selector.X.(*ast.Ident); ok && slices.Contains(file.Unresolved, name) {
				names = append(names, name.Name)
			}
		}
		return true
	})
	slices.Sort(names)
	return slices.Compact(names)
}

// resolve returns the one import path that ends in name.
func resolve(name string, own, standard []string) (string, error) {
	public := func(p string) bool {
		return path.Base(p) == name && !strings.Contains("/"+p+"/", "/internal/") && !strings.HasPrefix(p, "vendor/")
	}
	if p, ok := leftToReaders[name]; ok {
		return p, nil
	}
	for _, candidates := range [][]string{own, standard} {
		i := slices.IndexFunc(candidates, public)
		switch {
		case i < 0:
		case slices.ContainsFunc(candidates[i+1:], public):
			return "", fmt.Errorf("more than one package is named %s", name)
		default:
			return candidates[i], nil
		}
	}
	return "", fmt.Errorf("no package is named %s", name)
}
