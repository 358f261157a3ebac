package realtime_test

import (
	"fmt"
	"os/exec"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// The table of packages in ARCHITECTURE.md is what the compiler sees: what each package of this
// module says of itself, and which others it imports.
func TestImports(t *testing.T) {
	const module = "github.com/realtime-go/realtime"
	out, err := exec.Command("go", "list", "-f", `{{.ImportPath}}|{{.Doc}}|{{join .Imports " "}}`, "./...").Output()
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
	require.True(t, strings.Contains(read(t, "docs/ARCHITECTURE.md"), table), "the table should be\n\n%s", table)
}
