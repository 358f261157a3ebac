package realtime_test

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// The table of packages in ARCHITECTURE.md has, for each package of this module, the first sentence
// of its documentation and the packages of this module that it imports.
func TestImports(t *testing.T) {
	const module = "github.com/realtime-go/realtime"
	const format = `{{.ImportPath}}|{{.Doc}}|{{join .Imports " "}}`
	out, err := exec.Command("go", "list", "-f", format, "./...").Output()
	require.NoError(t, err)
	rows := []string{"| package | what it is | imports |", "|---|---|---|"}
	for line := range strings.Lines(string(out)) {
		cells := strings.Split(strings.TrimSpace(line), "|")
		path, doc, imports := cells[0], cells[1], strings.Fields(cells[2])
		if strings.HasPrefix(path, module+"/examples/") {
			continue
		}
		var own []string
		for _, one := range imports {
			require.NotEqual(t, "unsafe", one, path)
			if one == module || strings.HasPrefix(one, module+"/") {
				own = append(own, strings.TrimPrefix(one, "github.com/realtime-go/"))
			}
		}
		name := strings.TrimPrefix(path, "github.com/realtime-go/")
		list := strings.ReplaceAll(strings.Join(own, ", "), "realtime/", "")
		rows = append(rows, fmt.Sprintf("| %s | %s | %s |", name, doc, list))
	}
	table := strings.Join(rows, "\n") + "\n"
	found := strings.Contains(read(t, "docs/ARCHITECTURE.md"), table)
	require.True(t, found, "the table should be\n\n%s", table)
}

// ARCHITECTURE.md lists each file of the packages that it has a table of files for, except for doc.go and
// the variants of a file for some systems.
func TestFilesAreListed(t *testing.T) {
	doc, err := os.ReadFile("docs/ARCHITECTURE.md")
	require.NoError(t, err)
	tables := regexp.MustCompile(`(?m)^\| (\S+) \| subject \|\n\|---\|---\|\n((?:\|.*\n)+)`)
	variant := regexp.MustCompile(`_(test|linux|unix|other|flock)\.go$`)
	found := tables.FindAllStringSubmatch(string(doc), -1)
	require.NotEmpty(t, found)
	for _, table := range found {
		var listed, files []string
		for row := range strings.Lines(table[2]) {
			listed = append(listed, strings.TrimSpace(strings.Split(row, "|")[1]))
		}
		entries, err := os.ReadDir(table[1])
		require.NoError(t, err)
		for _, e := range entries {
			name := e.Name()
			if strings.HasSuffix(name, ".go") && name != "doc.go" && !variant.MatchString(name) {
				files = append(files, name)
			}
		}
		require.ElementsMatch(t, files, listed, table[1])
	}
}

// The module requires three modules directly. No package uses unsafe, cgo, plugins, init or
// linkname.
func TestDependencies(t *testing.T) {
	mod, err := os.ReadFile("go.mod")
	require.NoError(t, err)
	var direct []string
	required := regexp.MustCompile(`(?m)^\t(\S+) v\S+$`)
	for _, m := range required.FindAllStringSubmatch(string(mod), -1) {
		direct = append(direct, m[1])
	}
	slices.Sort(direct)
	require.Equal(t, []string{
		"github.com/coder/websocket", "github.com/google/uuid", "github.com/stretchr/testify",
	}, direct)
	for _, dir := range []string{".", "internal", "broker", "client"} {
		require.NoError(t, filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
			if dir == "." && d.IsDir() && path != "." {
				return filepath.SkipDir
			}
			if err == nil && strings.HasSuffix(path, ".go") {
				requirePlain(t, path)
			}
			return err
		}))
	}
}

// requirePlain fails if a file uses unsafe, cgo, plugins, init or linkname.
func requirePlain(t *testing.T, path string) {
	f, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ParseComments)
	require.NoError(t, err)
	for _, imp := range f.Imports {
		require.NotContains(t, []string{`"unsafe"`, `"C"`, `"plugin"`}, imp.Path.Value, path)
	}
	for _, decl := range f.Decls {
		if fn, ok := decl.(*ast.FuncDecl); ok {
			require.False(t, fn.Recv == nil && fn.Name.Name == "init", path)
		}
	}
	for _, group := range f.Comments {
		for _, c := range group.List {
			require.False(t, strings.HasPrefix(c.Text, "//go:linkname"), path)
		}
	}
}
