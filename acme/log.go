package acme

import (
	"context"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// maxText bounds one text of a CA or a program in a log or an error, in bytes.
const maxText = 300

// plain is an error whose words may be shown to a person: what a CA says may
// quote what a visitor's server sent.
type plain struct{ err error }

func (p plain) Error() string { return clean(p.err.Error()) }
func (p plain) Unwrap() error { return p.err }

// clean bounds s and blanks what is no graphic character.
func clean(s string) string {
	if len(s) > maxText {
		s = s[:maxText] + "..."
	}
	return strings.Map(func(r rune) rune {
		if r == utf8.RuneError || !unicode.IsPrint(r) {
			return ' '
		}
		return r
	}, s)
}

// quiet is a handler for what the libraries log: all of it for debugging. They
// call routine a warning, and an error what nobody wanted; what an operator
// must know is said by this package itself.
type quiet struct{ slog.Handler }

func (q quiet) Enabled(ctx context.Context, _ slog.Level) bool {
	return q.Handler.Enabled(ctx, slog.LevelDebug)
}

func (q quiet) Handle(ctx context.Context, r slog.Record) error {
	out := slog.NewRecord(r.Time, slog.LevelDebug, clean(r.Message), 0)
	r.Attrs(func(a slog.Attr) bool { out.AddAttrs(bounded(a)); return true })
	return q.Handler.Handle(ctx, out)
}

func (q quiet) WithAttrs(attrs []slog.Attr) slog.Handler {
	attrs = slices.Clone(attrs)
	for i, a := range attrs {
		attrs[i] = bounded(a)
	}
	return quiet{q.Handler.WithAttrs(attrs)}
}

func (q quiet) WithGroup(name string) slog.Handler { return quiet{q.Handler.WithGroup(name)} }

// bounded is a with its text cleaned, down through groups.
func bounded(a slog.Attr) slog.Attr {
	v := a.Value.Resolve()
	switch v.Kind() {
	case slog.KindGroup:
		group := slices.Clone(v.Group())
		for i := range group {
			group[i] = bounded(group[i])
		}
		return slog.Attr{Key: a.Key, Value: slog.GroupValue(group...)}
	case slog.KindAny, slog.KindString:
		return slog.String(a.Key, clean(v.String()))
	}
	return a
}

// zapLogger is l for certmagic, which logs with zap.
func zapLogger(l *slog.Logger) *zap.Logger { return zap.New(&core{log: l}) }

// core is a zapcore.Core that hands every entry to a slog.Logger.
type core struct {
	log    *slog.Logger
	fields []zapcore.Field
}

// Enabled takes every level for debugging, as quiet does.
func (c *core) Enabled(zapcore.Level) bool {
	return c.log.Enabled(context.Background(), slog.LevelDebug)
}

func (c *core) With(fields []zapcore.Field) zapcore.Core {
	return &core{log: c.log, fields: slices.Concat(c.fields, fields)}
}

func (c *core) Check(e zapcore.Entry, ce *zapcore.CheckedEntry) *zapcore.CheckedEntry {
	if c.Enabled(e.Level) {
		return ce.AddCore(e, c)
	}
	return ce
}

func (c *core) Write(e zapcore.Entry, fields []zapcore.Field) error {
	enc := zapcore.NewMapObjectEncoder()
	for _, f := range slices.Concat(c.fields, fields) {
		f.AddTo(enc)
	}
	var attrs []slog.Attr
	for _, k := range slices.Sorted(maps.Keys(enc.Fields)) {
		attrs = append(attrs, slog.Any(k, enc.Fields[k]))
	}
	c.log.LogAttrs(context.Background(), slog.LevelDebug, e.Message, attrs...)
	return nil
}

func (c *core) Sync() error { return nil }
