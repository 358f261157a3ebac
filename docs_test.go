package realtime_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"reflect"
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
	block := regexp.MustCompile("(?s)```" + language + "\n(.*?)```")
	for _, m := range block.FindAllStringSubmatch(text, -1) {
		found = append(found, m[1])
	}
	return found
}

// CI runs each command in the documents.
func TestCommandsInDocsRunInCI(t *testing.T) {
	ci := read(t, ".ci/run")
	n := 0
	docs := []string{"README.md", "CONTRIBUTING.md", "docs/ARCHITECTURE.md", "docs/PROTOCOL.md"}
	for _, doc := range docs {
		text := read(t, doc)
		// TestQuickStart runs the quick start.
		if before, after, ok := strings.Cut(text, "## Quick start"); ok {
			_, after, _ = strings.Cut(after, "\n## ")
			text = before + after
		}
		for _, block := range blocks(text, "sh") {
			for command := range strings.Lines(block) {
				n++
				require.Contains(t, ci, strings.TrimSpace(command), "CI does not run it: %s", doc)
			}
		}
	}
	require.NotZero(t, n)
}

// The code in the README is valid Go. The quick start is the program that is tested in examples.
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

// The code in recipes and in the migration guide is in files that are compiled and tested.
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

// The table of close codes in PROTOCOL.md lists the constants of the code.
func TestCloseCodesAreDocumented(t *testing.T) {
	documented := map[string]string{}
	row := regexp.MustCompile(
		`(?m)^\| (\d{4}) \| (\w+) \| .* \| (reconnects|does not reconnect) \|$`)
	for _, m := range row.FindAllStringSubmatch(read(t, "docs/PROTOCOL.md"), -1) {
		documented[m[2]] = m[1]
		code, err := strconv.Atoi(m[1])
		require.NoError(t, err)
		require.Equal(t, m[3] == "reconnects", realtime.CloseCode(code).ComeBack(), m[2])
	}
	require.Equal(t, constants(t, "internal/disconnect", "Close"), documented)
	for _, code := range []realtime.CloseCode{3000, 4000, 4299, 4399, 1011, 1014} {
		require.True(t, code.ComeBack(), code)
	}
	for _, code := range []realtime.CloseCode{1003, 1010, 1015, 4400, 4499, 4500, 4999} {
		require.False(t, code.ComeBack(), code)
	}
}

// parseDir parses the files of a folder: the tests, or else the package.
func parseDir(t *testing.T, dir string, tests bool) (files []*ast.File) {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(dir, "*.go"))
	require.NoError(t, err)
	for _, path := range paths {
		if strings.HasSuffix(path, "_test.go") == tests {
			f, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
			require.NoError(t, err)
			files = append(files, f)
		}
	}
	return files
}

// constants returns the values of a package's constants whose names are prefix and a capital
// letter, followed by anything.
func constants(t *testing.T, dir, prefix string) map[string]string {
	t.Helper()
	declared := map[string]string{}
	name := regexp.MustCompile("^" + prefix + "[A-Z]")
	for _, f := range parseDir(t, dir, false) {
		for _, decl := range f.Decls {
			group, ok := decl.(*ast.GenDecl)
			if !ok || group.Tok != token.CONST {
				continue
			}
			for _, spec := range group.Specs {
				spec := spec.(*ast.ValueSpec)
				if !name.MatchString(spec.Names[0].Name) {
					continue
				}
				value, ok := spec.Values[0].(*ast.BasicLit)
				require.True(t, ok, "%s is not a literal", spec.Names[0].Name)
				declared[spec.Names[0].Name] = value.Value
			}
		}
	}
	require.NotEmpty(t, declared)
	return declared
}

// The table of error codes in PROTOCOL.md lists the codes of error replies.
func TestErrorCodesAreDocumented(t *testing.T) {
	_, table, ok := strings.Cut(read(t, "docs/PROTOCOL.md"), "| code | means |")
	require.True(t, ok)
	table, _, _ = strings.Cut(table, "\n\n")
	var documented []string
	for _, m := range regexp.MustCompile(`(?m)^\| ([a-z_]+) \| `).FindAllStringSubmatch(table, -1) {
		documented = append(documented, strconv.Quote(m[1]))
	}
	codes := constants(t, "internal/wire", "Code")
	require.ElementsMatch(t, slices.Collect(maps.Values(codes)), documented)
}

// Each threat in SECURITY.md names its tests, and the document names only tests and options that
// exist.
func TestThreatsAreTested(t *testing.T) {
	known := testNames(t)
	text := read(t, "docs/SECURITY.md")
	name := regexp.MustCompile("`(\\w+\\.(?:Test|Fuzz)\\w+)`")
	rows := regexp.MustCompile(`(?m)^\| (\d+) \| .* \| ([^|]*) \|$`).FindAllStringSubmatch(text, -1)
	require.Greater(t, len(rows), 30)
	for i, row := range rows {
		require.True(t, i == 0 || rows[i-1][1] < row[1], "row %s is out of order", row[1])
		require.NotEmpty(t, row[2], "threat %s", row[1])
		require.Empty(t, strings.TrimSpace(name.ReplaceAllString(row[2], "")), "threat %s", row[1])
	}
	for _, m := range name.FindAllStringSubmatch(text, -1) {
		require.True(t, known[m[1]], "there is no test %s", m[1])
	}
	options := reflect.TypeFor[realtime.Options]()
	option := regexp.MustCompile("`Options\\.([A-Za-z]+)`")
	for _, m := range option.FindAllStringSubmatch(text, -1) {
		_, ok := options.FieldByName(m[1])
		require.True(t, ok, "Options.%s", m[1])
	}
}

// The scripts of CI name only tests that exist. go test says nothing about a name that matches
// none.
func TestScriptsRunTestsThatExist(t *testing.T) {
	known := testNames(t)
	run := regexp.MustCompile(`go test .*-run '?([A-Za-z|]+)'?`)
	names := run.FindAllStringSubmatch(read(t, ".ci/proof"), -1)
	require.NotEmpty(t, names)
	for _, m := range names {
		for part := range strings.SplitSeq(m[1], "|") {
			found := slices.ContainsFunc(slices.Collect(maps.Keys(known)), func(name string) bool {
				return strings.Contains(name, part)
			})
			require.True(t, found, "no test matches %s", part)
		}
	}
}

// testNames returns the tests and fuzz targets below this folder as package.Name. The name of a
// package is the last element of its path.
func testNames(t *testing.T) map[string]bool {
	t.Helper()
	known := map[string]bool{}
	test := regexp.MustCompile(`^(Test|Fuzz)[A-Z0-9]`)
	require.NoError(t, filepath.WalkDir(".", func(dir string, d fs.DirEntry, err error) error {
		if err != nil || !d.IsDir() {
			return err
		}
		if d.Name() == "node_modules" || d.Name() == "testdata" || d.Name() == ".git" {
			return filepath.SkipDir
		}
		name := filepath.Base(dir)
		if dir == "." {
			name = "realtime"
		}
		for _, f := range parseDir(t, dir, true) {
			for _, decl := range f.Decls {
				fn, ok := decl.(*ast.FuncDecl)
				if ok && fn.Recv == nil && test.MatchString(fn.Name.Name) {
					known[name+"."+fn.Name.Name] = true
				}
			}
		}
		return nil
	}))
	return known
}

// Each file that a document links to exists. The README and the chat example do not exceed their
// number of lines.
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
