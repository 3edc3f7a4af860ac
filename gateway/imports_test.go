package gateway

import (
	"os/exec"
	"strings"
	"testing"
)

// Every package but this one speaks one protocol and knows no other package
// of the module, so that each can be read by itself. tcp is the ground floor:
// whoever joins two connections may use it.
func TestLeavesImportNoLeaf(t *testing.T) {
	out, err := exec.Command("go", "list", "-f", "{{.ImportPath}} {{join .Imports \" \"}}", "adit/...").CombinedOutput()
	if err != nil {
		t.Fatalf("go list: %v\n%s", err, out)
	}
	for line := range strings.Lines(string(out)) {
		words := strings.Fields(line)
		if top := words[0]; top == "adit/gateway" || strings.HasPrefix(top, "adit/cmd/") {
			continue
		}
		for _, imported := range words[1:] {
			if strings.HasPrefix(imported, "adit/") && imported != "adit/tcp" {
				t.Errorf("%s imports %s", words[0], imported)
			}
		}
	}
}
