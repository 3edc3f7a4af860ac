//go:build linux

package main

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// subject is whose figures have targets.
const subject = "adit"

// medians are the figures of all rounds, by case, peer and figure.
type medians map[[3]string]float64

func collect(runs []record) medians {
	all := map[[3]string][]float64{}
	for _, r := range runs {
		for name, v := range r.Figures {
			k := [3]string{r.Case, r.Peer, name}
			all[k] = append(all[k], v)
		}
	}
	m := medians{}
	for k, v := range all {
		m[k] = median(v)
	}
	return m
}

// median is the middle of values, of which there is at least one.
func median(values []float64) float64 {
	s := slices.Sorted(slices.Values(values))
	return (s[(len(s)-1)/2] + s[len(s)/2]) / 2
}

// percentile is the nearest rank's (p of 1 to 100) in sorted times; 0 if
// there are none.
func percentile(sorted []time.Duration, p int) time.Duration {
	if len(sorted) == 0 {
		return 0
	}
	return sorted[(len(sorted)*p+99)/100-1]
}

// verdict is a target and whether it was kept.
type verdict struct {
	text string // the target as it is shown
	kept string // "ok", "miss", or "" where there is no target or no figure
}

// judge holds adit's figure against its bound.
func (m medians) judge(name, figure string, b bound) verdict {
	limit, text := b.limit, b.symbol()+" "+number(b.limit)
	if b.peer != "" {
		of := b.of
		if of == "" {
			of = name
		}
		limit *= m.get(of, b.peer, figure)
		text = b.symbol() + " " + number(b.limit) + " × " + b.other()
	}
	v := m.get(name, subject, figure)
	switch {
	case math.IsNaN(limit) || math.IsNaN(v):
		return verdict{text, ""}
	case b.least && v >= limit || !b.least && v <= limit:
		return verdict{text, "ok"}
	}
	return verdict{text, "miss"}
}

func (b bound) symbol() string {
	if b.least {
		return "≥"
	}
	return "≤"
}

// other is the figure that the bound is in terms of.
func (b bound) other() string {
	if b.of == "" {
		return b.peer
	}
	return b.peer + ", " + b.of
}

// get is a figure, or NaN where it was not measured.
func (m medians) get(name, peer, figure string) float64 {
	if v, ok := m[[3]string{name, peer, figure}]; ok {
		return v
	}
	return math.NaN()
}

// table is what is shown: a row for each figure of each case.
type table struct{ rows [][]string }

// tabulate makes the table of the peers and cases that were measured.
func tabulate(runs []record) *table {
	m := collect(runs)
	peers := slices.DeleteFunc(slices.Clone(peerNames), func(p string) bool { return p == subject || !m.hasPeer(p) })
	t := &table{rows: [][]string{slices.Concat([]string{"case", "figure", subject, "target", ""}, peers)}}
	for _, c := range cases {
		t.addCase(m, c, peers)
	}
	return t
}

func (m medians) hasPeer(peer string) bool {
	for k := range m {
		if k[1] == peer {
			return true
		}
	}
	return false
}

// addCase adds the case's rows; its name stands in the first only.
func (t *table) addCase(m medians, c *benchCase, peers []string) {
	name := c.name
	for _, figure := range figureOrder {
		row, any := m.row(c, figure, peers)
		if !any {
			continue
		}
		t.rows = append(t.rows, append([]string{name}, row...))
		name = ""
	}
}

// row is one figure of all peers, and whether any of them has it.
func (m medians) row(c *benchCase, figure string, peers []string) (row []string, any bool) {
	own := m.get(c.name, subject, figure)
	row = []string{figure, cell(own), "", ""}
	if b, ok := c.targets[figure]; ok {
		v := m.judge(c.name, figure, b)
		row[2], row[3] = v.text, v.kept
	}
	any = !math.IsNaN(own)
	for _, p := range peers {
		v := m.get(c.name, p, figure)
		any = any || !math.IsNaN(v)
		row = append(row, cell(v)+ratio(own, v))
	}
	return row, any
}

func cell(v float64) string {
	if math.IsNaN(v) {
		return ""
	}
	return number(v)
}

// ratio is own divided by v, in brackets; nothing where there is none.
func ratio(own, v float64) string {
	r := own / v
	if math.IsNaN(r) || math.IsInf(r, 0) {
		return ""
	}
	return " (" + number(r) + ")"
}

// number shows three digits, or all of them before the point.
func number(v float64) string {
	digits := 0
	if a := math.Abs(v); a < 9.995 {
		digits = 2
	} else if a < 99.95 {
		digits = 1
	}
	s := strconv.FormatFloat(v, 'f', digits, 64)
	if strings.Contains(s, ".") {
		s = strings.TrimRight(strings.TrimRight(s, "0"), ".")
	}
	return s
}

// score is how many targets were kept, of those that could be judged.
func (t *table) score() (kept, of int) {
	for _, row := range t.rows[1:] {
		switch row[4] {
		case "ok":
			kept++
			of++
		case "miss":
			of++
		}
	}
	return kept, of
}

// text is the table in Markdown, its columns aligned for a terminal.
func (t *table) text() string {
	widths := make([]int, len(t.rows[0]))
	for _, row := range t.rows {
		for i, s := range row {
			widths[i] = max(widths[i], utf8.RuneCountInString(s), 1)
		}
	}
	var out strings.Builder
	for i, row := range t.rows {
		for j, s := range row {
			fmt.Fprintf(&out, "| %-*s ", widths[j], s)
		}
		out.WriteString("|\n")
		if i == 0 {
			out.WriteString(rule(widths))
		}
	}
	return out.String()
}

func rule(widths []int) string {
	var out strings.Builder
	for _, w := range widths {
		out.WriteString("|" + strings.Repeat("-", w+2))
	}
	return out.String() + "|\n"
}
