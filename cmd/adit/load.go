package main

import (
	"encoding"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"github.com/alecthomas/kong"
	"go.yaml.in/yaml/v3"
)

// maxConfigFile bounds the configuration file: some thirty keys.
const maxConfigFile = 1 << 20

// configError is what is wrong with the environment or the file.
type configError struct{ error }

func (e *configError) Unwrap() error { return e.error }

// given is one setting as the environment or the file gives it.
type given struct {
	where string // "ADIT_SSH" or "adit.yaml:3: ssh"
	flag  *kong.Flag
	text  string
}

// load sets what the file and the environment give, the file first so that
// the environment beats it. Every value is read, also one that a flag will
// replace, and every mistake is reported.
func load(ctx *kong.Context, env map[string]string) error {
	flags := settingFlags(ctx)
	fromEnv := readEnv(flags, env)
	fromFile, err := readConfigFile(flags, configPath(ctx, flags["config"], env))
	errs := []error{err}
	for _, g := range append(fromFile, fromEnv...) {
		errs = append(errs, g.set())
	}
	if err := errors.Join(errs...); err != nil {
		return &configError{err}
	}
	return nil
}

// settingFlags is the settings by name.
func settingFlags(ctx *kong.Context) map[string]*kong.Flag {
	flags := make(map[string]*kong.Flag)
	for _, flag := range ctx.Model.Flags {
		if flag.Name != "help" {
			flags[flag.Name] = flag
		}
	}
	return flags
}

// set gives the setting its value. Every setting reads text (a test holds
// them to it); kong's own way would call the value a flag in its message.
func (g given) set() error {
	value := g.flag.Target.Addr().Interface().(encoding.TextUnmarshaler)
	if err := value.UnmarshalText([]byte(g.text)); err != nil {
		return fmt.Errorf("%s: %w", g.where, err)
	}
	return nil
}

// envName is the environment variable of a flag.
func envName(flag string) string {
	return "ADIT_" + strings.ToUpper(strings.ReplaceAll(flag, "-", "_"))
}

// readEnv reads the ADIT_ variables. An empty one is unset, as it is to a
// shell script or a compose file that passes on what it may not have.
func readEnv(flags map[string]*kong.Flag, env map[string]string) (found []given) {
	for _, name := range sortedKeys(flags) {
		if text := env[envName(name)]; text != "" {
			found = append(found, given{envName(name), flags[name], text})
		}
	}
	return found
}

// strayVariables are the ADIT_ variables that set nothing. The environment
// belongs to others too, so they stop nobody, but they are told.
func strayVariables(flags map[string]*kong.Flag, env map[string]string) (stray []string) {
	known := make(map[string]bool)
	for name := range flags {
		known[envName(name)] = true
	}
	for _, name := range sortedKeys(env) {
		if strings.HasPrefix(name, "ADIT_") && !known[name] {
			stray = append(stray, name)
		}
	}
	return stray
}

// configPath is the file named by the flag, else by the environment.
func configPath(ctx *kong.Context, flag *kong.Flag, env map[string]string) string {
	if name, ok := ctx.FlagValue(flag).(path); ok && name != "" {
		return string(name)
	}
	if name := env[envName("config")]; name != "" {
		return kong.ExpandPath(name)
	}
	return ""
}

// readConfigFile reads the settings in a YAML file. No name: no file.
func readConfigFile(flags map[string]*kong.Flag, name string) ([]given, error) {
	if name == "" {
		return nil, nil
	}
	f, err := os.Open(name)
	if err != nil {
		return nil, fmt.Errorf("config: %w", err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxConfigFile+1))
	if err != nil {
		return nil, fmt.Errorf("config: %w", err)
	}
	if len(data) > maxConfigFile {
		return nil, fmt.Errorf("%s: is longer than %d bytes", name, maxConfigFile)
	}
	return parseConfigFile(flags, name, data)
}

// parseConfigFile takes one YAML document, a mapping of flags to values, with
// nothing in it that would go unnoticed.
func parseConfigFile(flags map[string]*kong.Flag, name string, data []byte) ([]given, error) {
	in := &lineReader{data}
	decoder := yaml.NewDecoder(in)
	var doc, second yaml.Node
	if err := decoder.Decode(&doc); errors.Is(err, io.EOF) {
		return nil, nil
	} else if err != nil {
		return nil, syntaxError(name, in.given(data), err)
	}
	if err := decoder.Decode(&second); err == nil {
		return nil, fmt.Errorf("%s:%d: a second document; only one is read", name, second.Line)
	} else if !errors.Is(err, io.EOF) {
		return nil, syntaxError(name, in.given(data), err)
	}
	root := doc.Content[0]
	if root.Kind == yaml.ScalarNode && root.Tag == "!!null" {
		return nil, nil
	}
	if root.Kind != yaml.MappingNode {
		return nil, fmt.Errorf("%s:%d: wants lines of KEY: VALUE", name, root.Line)
	}
	return readMapping(flags, name, root)
}

// readMapping reads the keys, each of which must be known and stand once.
func readMapping(flags map[string]*kong.Flag, name string, root *yaml.Node) (found []given, err error) {
	var errs []error
	seen := make(map[string]int) // key to line
	for i := 0; i+1 < len(root.Content); i += 2 {
		key, value := root.Content[i], root.Content[i+1]
		g := given{where: fmt.Sprintf("%s:%d: %.80s", name, key.Line, plain(key.Value)), flag: flags[key.Value]}
		g.text, err = scalars(value)
		switch first := seen[key.Value]; {
		case g.flag == nil:
			err = fmt.Errorf("%s: is not a setting%s", g.where, suggest(flags, key.Value))
		case g.flag.Name == "config":
			err = fmt.Errorf("%s: a file cannot name another", g.where)
		case first != 0:
			err = fmt.Errorf("%s: stands twice, first in line %d", g.where, first)
		case err != nil:
			err = fmt.Errorf("%s: %w", g.where, err)
		default:
			found = append(found, g)
		}
		seen[key.Value] = key.Line
		errs = append(errs, err)
	}
	return found, errors.Join(errs...)
}

// plain is text with what could move a terminal's cursor, or hide, escaped.
func plain(text string) string {
	var b strings.Builder
	for _, r := range text {
		if unicode.IsPrint(r) {
			b.WriteRune(r)
		} else {
			b.WriteString(strings.Trim(strconv.QuoteRuneToASCII(r), "'"))
		}
	}
	return b.String()
}

// suggest names the setting that was likely meant.
func suggest(flags map[string]*kong.Flag, key string) string {
	near := strings.ReplaceAll(strings.ToLower(strings.TrimLeft(key, "-")), "_", "-")
	if flags[near] != nil {
		return fmt.Sprintf("; did you mean %q?", near)
	}
	return "; adit serve --help lists them"
}

// scalars is a node's text: one value, or a list of them joined by commas.
func scalars(node *yaml.Node) (string, error) {
	if node.Kind != yaml.SequenceNode {
		return scalar(node)
	}
	var texts []string
	for _, item := range node.Content {
		text, err := scalar(item)
		if err != nil {
			return "", err
		}
		texts = append(texts, text)
	}
	return strings.Join(texts, ","), nil
}

// scalar is one value as it is written. Only text and numbers are values, and
// which numbers each setting says itself: YAML's other kinds (true, a date) are
// never meant here.
func scalar(node *yaml.Node) (string, error) {
	tags := []string{"!!str", "!!int", "!!float"}
	if node.Kind != yaml.ScalarNode || !slices.Contains(tags, node.ShortTag()) {
		return "", fmt.Errorf("wants text or a number, not %s", kindOf(node))
	}
	return node.Value, nil
}

// kindOf names what stands where a value should.
func kindOf(node *yaml.Node) string {
	switch node.Kind {
	case yaml.MappingNode:
		return "a mapping"
	case yaml.SequenceNode:
		return "a list"
	case yaml.AliasNode:
		return "an alias"
	}
	if node.ShortTag() == "!!null" {
		return "nothing"
	}
	return fmt.Sprintf("%.80q", node.Value)
}

// sortedKeys is m's keys in order.
func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for key := range m {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	return keys
}
