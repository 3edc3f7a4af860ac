package main

import (
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/alecthomas/kong"
)

// cli is the command line: the commands, and the settings, which each are a
// flag, an environment variable and a key of the configuration file.
type cli struct {
	Serve   serveCmd   `cmd:"" help:"Run the gateway. Without flags: on this machine only, as an account's own."`
	Check   checkCmd   `cmd:"" help:"Check the configuration and the surroundings, and say what to do."`
	Keys    keysCmd    `cmd:"" help:"Edit who may log in."`
	Version versionCmd `cmd:"" help:"Print the version, the Go version and the commit."`

	settings

	env    map[string]string
	stderr io.Writer
}

// call is a parsed command line.
type call struct {
	settings
	context *kong.Context
	helped  bool // --help was asked for, and answered
}

// placeFlags are the settings that say where the state folder is: all that
// the keys commands have a use for.
var placeFlags = map[string]bool{"help": true, "config": true, "domain": true, "state": true}

// parse reads the command line, and for commands that have settings the
// environment and the file too. What --help prints goes to out.
func (p *program) parse(out io.Writer) (*call, error) {
	c, grammar := &call{}, &cli{env: p.env, stderr: p.stderr}
	parser, err := kong.New(grammar,
		kong.Name("adit"),
		kong.Description("An SSH tunnel gateway: ssh -R 80:localhost:8080 puts a port of a laptop on the internet."),
		kong.Writers(out, p.stderr),
		kong.Exit(func(int) { c.helped = true }),
		kong.Help(printHelp),
		kong.ValueFormatter(describe),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true, WrapUpperBound: 100}),
	)
	if err != nil {
		return nil, fmt.Errorf("command line: %w", err)
	}
	c.context, err = parser.Parse(p.args)
	if c.helped {
		return c, nil
	}
	c.settings = grammar.settings
	return c, err
}

// BeforeResolve fills in what the environment and the file set, before the
// flags, which beat both, are applied.
func (c *cli) BeforeResolve(ctx *kong.Context) error {
	if ctx.Command() == "" {
		return nil // and kong says what is missing
	}
	if err := errors.Join(refuseStrayFlags(ctx), refuseRepeatedFlags(ctx)); err != nil {
		return err
	}
	if isCommand(ctx, "version") {
		return nil
	}
	for _, name := range strayVariables(settingFlags(ctx), c.env) {
		fmt.Fprintf(c.stderr, "adit: warning: %.80q in the environment is not a setting; adit serve --help lists them\n", name)
	}
	return load(ctx, c.env)
}

// isCommand reports whether the selected command is name or under it.
func isCommand(ctx *kong.Context, name string) bool {
	return strings.SplitN(ctx.Command()+" ", " ", 2)[0] == name
}

// hasFlag reports whether the selected command has a use for the setting.
func hasFlag(ctx *kong.Context, name string) bool {
	switch {
	case isCommand(ctx, "serve"), isCommand(ctx, "check"):
		return true
	case isCommand(ctx, "keys"):
		return placeFlags[name]
	}
	return name == "help"
}

// refuseStrayFlags refuses a setting beside a command that would ignore it.
func refuseStrayFlags(ctx *kong.Context) error {
	for _, path := range ctx.Path {
		if path.Flag != nil && !hasFlag(ctx, path.Flag.Name) {
			return fmt.Errorf("--%s has no meaning for adit %s", path.Flag.Name, ctx.Command())
		}
	}
	return nil
}

// refuseRepeatedFlags refuses a flag that stands twice: kong lets the last one
// win without a word. Several values are one, with commas between.
func refuseRepeatedFlags(ctx *kong.Context) error {
	seen := make(map[string]bool)
	for _, path := range ctx.Path {
		if path.Flag == nil {
			continue
		}
		if seen[path.Flag.Name] {
			return fmt.Errorf("--%s is given twice; where it takes several values, write them with commas between", path.Flag.Name)
		}
		seen[path.Flag.Name] = true
	}
	return nil
}

// printHelp prints kong's help without the settings that the command has no
// use for. The command alone (adit --help) lists none.
func printHelp(options kong.HelpOptions, ctx *kong.Context) error {
	for _, flag := range ctx.Model.Flags {
		flag.Hidden = !hasFlag(ctx, flag.Name)
	}
	return kong.DefaultHelpPrinter(options, ctx)
}

// describe is a flag's help with the name of its environment variable.
func describe(value *kong.Value) string {
	if value.Flag == nil || value.Name == "help" {
		return value.Help
	}
	return fmt.Sprintf("%s ($%s)", value.Help, envName(value.Name))
}
