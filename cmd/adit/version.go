package main

import (
	"fmt"
	"runtime"
	"runtime/debug"

	"adit/gateway"
)

// versionCmd is adit version.
type versionCmd struct{}

// Run prints the version, the Go version and the commit, a line each.
func (versionCmd) Run(p *program) error {
	_, err := fmt.Fprintf(p.stdout, "adit %s\n%s %s/%s\ncommit %s\n",
		gateway.Version, runtime.Version(), runtime.GOOS, runtime.GOARCH, commit())
	return err
}

// commit is what the binary was built from, as far as the Go tool noted it.
func commit() string {
	revision, changed := "unknown", ""
	info, _ := debug.ReadBuildInfo()
	if info == nil {
		return revision
	}
	for _, setting := range info.Settings {
		switch {
		case setting.Key == "vcs.revision":
			revision = setting.Value
		case setting.Key == "vcs.modified" && setting.Value == "true":
			changed = " with local changes"
		}
	}
	return revision + changed
}
