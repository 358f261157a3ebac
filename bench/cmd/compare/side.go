//go:build linux

package main

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// worktree stands for the tree as it is, without a commit.
const worktree = "worktree"

// side is one of the two commits, built.
type side struct {
	name    string
	server  string // path of the executable of bench/peers/realtime
	secure  string // the same for workloads over TLS, or empty
	app     string // and of bench/peers/realtime-app, or empty
	suites  []suite
	benches map[string]suite // by the name of the benchmark
}

// suite is the compiled tests of one package.
type suite struct {
	binary string
	dir    string // working directory of the tests
}

// newSide clones a commit of the repository in root into dir, and builds it.
func newSide(ctx context.Context, root, dir, commit string, o options) (*side, error) {
	tree, name := root, worktree
	if commit != worktree {
		full, err := output(ctx, root,
			"git", "rev-parse", "--verify", "--end-of-options", commit+"^{commit}")
		if err != nil {
			return nil, err
		}
		tree, name = filepath.Join(dir, "tree"), full[:12]
		if _, err := output(ctx, root, "git", "clone", "-q", "-s", "-n", root, tree); err != nil {
			return nil, err
		}
		if _, err := output(ctx, tree, "git", "checkout", "-q", "--detach", full); err != nil {
			return nil, err
		}
	}
	s := &side{name: name, benches: map[string]suite{}}
	fmt.Fprintln(os.Stderr, "building", name)
	if err := s.buildServers(ctx, root, tree, dir); err != nil {
		return nil, err
	}
	return s, s.compile(ctx, tree, dir, o)
}

// buildServers builds the servers of a tree. A tree from before realtime-app gets the servers of
// the tree in root for the workloads that it does not know, if they suit its library.
func (s *side) buildServers(ctx context.Context, root, tree, dir string) error {
	build := func(to string) error {
		_, err := output(ctx, tree, "go", "build", "-o", to+"/", "./bench/peers/realtime...")
		return err
	}
	if err := build(dir); err != nil {
		return err
	}
	s.server = filepath.Join(dir, "realtime")
	lent, err := lendServers(root, tree)
	if err != nil {
		return err
	}
	if lent {
		dir = filepath.Join(dir, "lent")
		if build(dir) != nil {
			fmt.Fprintln(os.Stderr, s.name, "has another API: no workloads over TLS or with an application")
			return nil
		}
	}
	s.secure, s.app = filepath.Join(dir, "realtime"), filepath.Join(dir, "realtime-app")
	return nil
}

// lendServers gives a tree from before the server realtime-app the servers of the tree in root, and
// reports whether it did.
func lendServers(root, tree string) (lent bool, err error) {
	const peers = "bench/peers/realtime"
	if _, err := os.Stat(filepath.Join(tree, peers+"-app")); err == nil {
		return false, nil
	}
	for _, path := range []string{"bench/serve", peers, peers + "-app"} {
		to := filepath.Join(tree, path)
		if err := os.RemoveAll(to); err != nil {
			return false, err
		}
		if err := os.CopyFS(to, os.DirFS(filepath.Join(root, path))); err != nil {
			return false, err
		}
	}
	return true, nil
}

var benchmark = regexp.MustCompile(`(?m)^func (Benchmark\w*)\(`)

// compile compiles the tests of each package with a benchmark that is compared.
func (s *side) compile(ctx context.Context, tree, dir string, o options) error {
	wanted, err := regexp.Compile(o.benchmarks)
	if err != nil {
		return err
	}
	files, err := output(ctx, tree, "git", "ls-files", "-co", "--exclude-standard", "*_test.go")
	if err != nil {
		return err
	}
	compiled := map[string]suite{}
	for file := range strings.Lines(files) {
		path := filepath.Join(tree, strings.TrimSpace(file))
		text, err := os.ReadFile(path)
		if err != nil {
			continue // the file is deleted in the tree
		}
		for _, m := range benchmark.FindAllSubmatch(text, -1) {
			name := string(m[1])
			if !wanted.MatchString(name) && !counted(o, name) {
				continue
			}
			at := filepath.Dir(path)
			if compiled[at].binary == "" {
				binary := filepath.Join(dir, fmt.Sprintf("suite%d.test", len(compiled)))
				if _, err := output(ctx, at, "go", "test", "-c", "-o", binary, "."); err != nil {
					return err
				}
				compiled[at] = suite{binary, at}
			}
			if other, ok := s.benches[name]; ok && other.dir != at {
				fmt.Fprintf(os.Stderr, "%s: %s of %s is ignored, because %s has one too\n",
					s.name, name, at, other.dir)
				continue
			}
			s.benches[name] = compiled[at]
		}
	}
	for _, one := range compiled {
		s.suites = append(s.suites, one)
	}
	slices.SortFunc(s.suites, func(a, b suite) int { return cmp.Compare(a.dir, b.dir) })
	return nil
}

// counted reports whether the instructions of a benchmark, or of a part of it, are compared.
func counted(o options, name string) bool {
	for one := range strings.SplitSeq(o.counted, ",") {
		if top, _, _ := strings.Cut(one, "/"); "Benchmark"+top == name {
			return true
		}
	}
	return false
}

// output runs a command and returns its standard output without surrounding space.
func output(ctx context.Context, dir, name string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = dir
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		command := strings.Join(append([]string{name}, args...), " ")
		return "", fmt.Errorf("%s: %w\n%s", command, err, &stderr)
	}
	return strings.TrimSpace(string(out)), nil
}
