package gateway

import (
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"
)

func TestPrintable(t *testing.T) {
	tests := []struct {
		in    string
		limit int
		want  string
	}{
		{"", 10, ""},
		{"plain text", 20, "plain text"},
		{"naïve 例え 🦫", 40, "naïve 例え 🦫"},
		{"a\nb\r\tc", 40, `a\x0ab\x0d\x09c`},
		{"\x1b]0;x\x07", 40, `\x1b]0;x\x07`},
		{"\x00\x7f", 40, `\x00\x7f`},
		{"\u009b2J", 40, `\x9b2J`},
		{"\x9b2J", 40, `\x9b2J`},
		{"\xc3(", 40, `\xc3(`},
		{"a\u202eb\u2066c", 40, `a\u{202e}b\u{2066}c`},
		{"a\u200bb\ufeffc\u2028", 60, `a\u{200b}b\u{feff}c\u{2028}`},
		{"\ufffd", 40, "\ufffd"},
		{"0123456789", 10, "0123456789"},
		{"0123456789a", 10, "0123456789..."},
		{strings.Repeat("\x1b", 10), 10, `\x1b\x1b\x1b...`},
		{strings.Repeat("x", 1<<20), 5, "xxxxx..."},
	}
	for _, tt := range tests {
		if got := printable(tt.in, tt.limit); got != tt.want {
			t.Errorf("%.40q: %q, want %q", tt.in, got, tt.want)
		}
	}
}

// FuzzPrintable holds that nothing comes out that a terminal would act on,
// and not much more than was allowed.
func FuzzPrintable(f *testing.F) {
	for _, s := range []string{"", "a", "\x1b[2J", "\u009b", "\x9b", "\xff\xfe", "\u202e", "🦫", "\n"} {
		f.Add(s, 10)
	}
	f.Fuzz(func(t *testing.T, s string, limit int) {
		limit = max(0, min(limit, 1000))
		got := printable(s, limit)
		if len(got) > limit+12 {
			t.Errorf("%d bytes of %d", len(got), limit)
		}
		if !utf8.ValidString(got) {
			t.Errorf("%q is not UTF-8", got)
		}
		for _, r := range got {
			if !unicode.IsPrint(r) || unicode.Is(unicode.Bidi_Control, r) {
				t.Errorf("%q has %U", got, r)
			}
		}
		if again := printable(got, len(got)); again != got {
			t.Errorf("%q is %q again", got, again)
		}
	})
}
