package realtime_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/realtime-go/realtime"
)

func read(t *testing.T, path string) string {
	t.Helper()
	p, err := os.ReadFile(path)
	require.NoError(t, err)
	return string(p)
}

// blocks returns the fenced blocks of a language.
func blocks(text, language string) (found []string) {
	for _, m := range regexp.MustCompile("(?s)```"+language+"\n(.*?)```").FindAllStringSubmatch(text, -1) {
		found = append(found, m[1])
	}
	return found
}

// Every command in the documents is one that CI runs.
func TestCommandsInDocsRunInCI(t *testing.T) {
	ci := read(t, ".ci/run")
	n := 0
	for _, doc := range []string{"README.md", "CONTRIBUTING.md", "docs/ARCHITECTURE.md", "docs/PROTOCOL.md"} {
		text := read(t, doc)
		if before, after, ok := strings.Cut(text, "## Quick start"); ok { // TestQuickStart runs that
			_, after, _ = strings.Cut(after, "\n## ")
			text = before + after
		}
		for _, block := range blocks(text, "sh") {
			for command := range strings.Lines(block) {
				n++
				require.Contains(t, ci, strings.TrimSpace(command), "%s has a command that CI does not run", doc)
			}
		}
	}
	require.NotZero(t, n)
}

// The code in the README is Go, and the quick start is tested where it is compiled.
func TestReadmeCode(t *testing.T) {
	code := blocks(read(t, "README.md"), "go")
	require.Equal(t, read(t, "examples/quickstart/main.go"), code[0])
	for _, block := range code[1:] {
		_, err := parser.ParseExpr("func() {" + block + "}")
		if err != nil {
			_, err = parser.ParseFile(token.NewFileSet(), "", "package p\n"+block, 0)
		}
		require.NoError(t, err, block)
	}
}

// Recipes and pages for newcomers show files that are compiled and tested.
func TestSnippets(t *testing.T) {
	for doc, from := range map[string]string{
		"docs/RECIPES.md": "examples/recipes/*.*", "docs/MIGRATION.md": "examples/migrate/*.*",
	} {
		paths, err := filepath.Glob(from)
		require.NoError(t, err)
		var files strings.Builder
		for _, path := range paths {
			files.WriteString(read(t, path))
		}
		n := 0
		for _, language := range []string{"go", "js", "nginx", "html"} {
			for _, block := range blocks(read(t, doc), language) {
				n++
				require.Contains(t, files.String(), block, doc)
			}
		}
		require.Greater(t, n, 2, doc)
	}
}

// The table of close codes in PROTOCOL.md is that of the code.
func TestCloseCodesAreDocumented(t *testing.T) {
	documented := map[string]string{}
	row := regexp.MustCompile(`(?m)^\| (\d{4}) \| (\w+) \| .* \| (reconnects|does not reconnect) \|$`)
	for _, m := range row.FindAllStringSubmatch(read(t, "docs/PROTOCOL.md"), -1) {
		documented[m[2]] = m[1]
		code, err := strconv.Atoi(m[1])
		require.NoError(t, err)
		require.Equal(t, m[3] == "reconnects", realtime.CloseCode(code).ComeBack(), m[2])
	}
	require.Equal(t, constants(t, "internal/disconnect/closecode.go", "Close"), documented)
	for _, code := range []realtime.CloseCode{3000, 4000, 4299, 4399, 1011, 1014} {
		require.True(t, code.ComeBack(), code)
	}
	for _, code := range []realtime.CloseCode{1003, 1010, 1015, 4400, 4499, 4500, 4999} {
		require.False(t, code.ComeBack(), code)
	}
}

// constants returns the constants of a file whose names begin so, with their values.
func constants(t *testing.T, file, prefix string) map[string]string {
	declared := map[string]string{}
	f, err := parser.ParseFile(token.NewFileSet(), file, nil, 0)
	require.NoError(t, err)
	ast.Inspect(f, func(n ast.Node) bool {
		if spec, ok := n.(*ast.ValueSpec); ok && strings.HasPrefix(spec.Names[0].Name, prefix) {
			declared[spec.Names[0].Name] = spec.Values[0].(*ast.BasicLit).Value
		}
		return true
	})
	return declared
}

// Every code of an error reply is in the protocol's table, and nothing else is.
func TestErrorCodesAreDocumented(t *testing.T) {
	_, table, ok := strings.Cut(read(t, "docs/PROTOCOL.md"), "| code | means |")
	require.True(t, ok)
	table, _, _ = strings.Cut(table, "\n\n")
	var documented []string
	for _, m := range regexp.MustCompile(`(?m)^\| ([a-z_]+) \| `).FindAllStringSubmatch(table, -1) {
		documented = append(documented, strconv.Quote(m[1]))
	}
	require.ElementsMatch(t, slices.Collect(maps.Values(constants(t, "internal/wire/command.go", "Code"))), documented)
}

// Every file that a document links to exists, and no document is long-winded.
func TestLinksInDocs(t *testing.T) {
	link := regexp.MustCompile(`\]\(([^)#:]+)\)`)
	code := regexp.MustCompile("(?s)```.*?```")
	for doc, dir := range map[string]string{
		"README.md": "", "CONTRIBUTING.md": "", "AGENTS.md": "", "CHANGELOG.md": "",
		"docs/ARCHITECTURE.md": "docs/", "docs/PROTOCOL.md": "docs/", "docs/SECURITY.md": "docs/",
		"docs/RECIPES.md": "docs/", "docs/MIGRATION.md": "docs/", "js/README.md": "js/",
	} {
		for _, m := range link.FindAllStringSubmatch(code.ReplaceAllString(read(t, doc), ""), -1) {
			_, err := os.Stat(dir + m[1])
			require.NoError(t, err, doc)
		}
	}
	require.LessOrEqual(t, strings.Count(read(t, "README.md"), "\n"), 200)
	require.LessOrEqual(t, strings.Count(read(t, "examples/chat/main.go"), "\n"), 80)
}
