package realtime_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"go/types"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// layers says which files stand on which: a file uses declarations of its own layer's
// lower files only. docs/ARCHITECTURE.md shows the same table.
var layers = [][]string{
	{"doc", "errors", "position", "limit", "json", "slow", "notes", "tails", "shard", "proxy", "audience", "given"},
	{"closecode", "name", "denials", "host", "result", "strikes", "receipts"},
	{"identity", "message", "target", "stats", "command"},
	{"codec", "transport", "stream", "tickets", "backlog", "memkind"},
	{"codecv1", "broker", "memstream", "traits"},
	{"frame", "hijack", "memory"},
	{"decoder", "receiver", "carrier"},
	{"websocket", "pipe", "answers", "source"},
	{"feed"},
	{"conn", "catchup"},
	{"auth", "call", "events", "origin", "room", "inbox", "aside", "registry"},
	{"options", "relief", "router"},
	{"visitors", "allowance"},
	{"reader", "heartbeat", "expiry", "dispatch", "gate"},
	{"index", "joins", "deliver", "shelf", "publish", "requester", "sendrequest", "roomrequests", "requests", "suspend"},
	{"resume"},
	{"session"},
	{"hub"},
	{"handler", "api", "clientjs", "handles", "shutdown"},
}

// sideways are the uses inside a layer, each a file that stands on another.
var sideways = map[string][]string{
	"aside":        {"inbox", "events"},
	"registry":     {"inbox"},
	"joins":        {"index"},
	"suspend":      {"joins", "index"},
	"deliver":      {"index"},
	"shelf":        {"index"},
	"publish":      {"index", "deliver", "shelf"},
	"requester":    {"joins", "index"},
	"sendrequest":  {"requester"},
	"roomrequests": {"requester", "joins", "index"},
	"requests":     {"requester", "sendrequest", "roomrequests"},
	"api":          {"handler", "handles"},
}

// stub resolves imports to empty packages: only this package's own names matter.
type stub map[string]*types.Package

func (s stub) Import(p string) (*types.Package, error) {
	if s[p] == nil {
		s[p] = types.NewPackage(p, path.Base(p))
		s[p].MarkComplete()
	}
	return s[p], nil
}

// uses returns which file uses declarations of which other file.
func uses(t *testing.T) map[string]map[string]string {
	fset := token.NewFileSet()
	paths, err := filepath.Glob("*.go")
	require.NoError(t, err)
	var files []*ast.File
	for _, p := range paths {
		if strings.HasSuffix(p, "_test.go") {
			continue
		}
		f, err := parser.ParseFile(fset, p, nil, parser.SkipObjectResolution)
		require.NoError(t, err)
		files = append(files, f)
	}
	info := &types.Info{Uses: map[*ast.Ident]types.Object{}}
	conf := types.Config{Importer: stub{}, Error: func(error) {}}
	pkg, _ := conf.Check("realtime", fset, files, info)
	name := func(p token.Pos) string { return strings.TrimSuffix(fset.Position(p).Filename, ".go") }
	edges := map[string]map[string]string{}
	for _, f := range files {
		edges[name(f.Pos())] = map[string]string{}
	}
	for id, obj := range info.Uses {
		if obj.Pkg() == pkg && obj.Pos().IsValid() && name(id.Pos()) != name(obj.Pos()) {
			edges[name(id.Pos())][name(obj.Pos())] = obj.Name()
		}
	}
	return edges
}

func layerOf(file string) int {
	return slices.IndexFunc(layers, func(l []string) bool { return slices.Contains(l, file) })
}

func TestLayers(t *testing.T) {
	edges := uses(t)
	for from, targets := range edges {
		require.GreaterOrEqual(t, layerOf(from), 0, "%s.go is in no layer", from)
		for to, what := range targets {
			ok := layerOf(to) < layerOf(from) ||
				layerOf(to) == layerOf(from) && slices.Contains(sideways[from], to)
			require.True(t, ok, "%s.go uses %s of %s.go, which is not below it", from, what, to)
		}
	}
	for _, layer := range layers {
		for _, file := range layer {
			require.Contains(t, edges, file, "%s.go is in the table and not in the package", file)
		}
	}
	requireAcyclic(t, edges)
}

func requireAcyclic(t *testing.T, edges map[string]map[string]string) {
	const under, done = 1, 2
	state := map[string]int{}
	var visit func(file string, trail []string)
	visit = func(file string, trail []string) {
		trail = append(trail, file)
		require.NotEqual(t, under, state[file], "cycle of files: %v", trail)
		if state[file] == done {
			return
		}
		state[file] = under
		for to := range edges[file] {
			visit(to, trail)
		}
		state[file] = done
	}
	for file := range edges {
		visit(file, nil)
	}
}

// The engine knows bytes and connections, and nothing of this package.
func TestOnlySomeFilesKnowHTTP(t *testing.T) {
	paths, err := filepath.Glob("*.go")
	require.NoError(t, err)
	allowed := []string{
		"api.go", "auth.go", "clientjs.go", "decoder.go", "handler.go", "hijack.go", "host.go", "options.go",
		"origin.go", "proxy.go", "tickets.go", "websocket.go",
	}
	for _, p := range paths {
		f, err := parser.ParseFile(token.NewFileSet(), p, nil, parser.ImportsOnly)
		require.NoError(t, err)
		for _, imp := range f.Imports {
			if imp.Path.Value == `"net/http"` && !strings.HasSuffix(p, "_test.go") {
				require.Contains(t, allowed, p)
			}
			require.NotEqual(t, `"unsafe"`, imp.Path.Value, p)
		}
	}
}
