package keys

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// set is every line at one moment. It is never changed after build.
type set struct {
	keys     map[digest]*holding
	cas      map[digest][]*line
	problems []Problem
	changed  chan struct{} // closed when another set takes this one's place
}

// holding is one login key: the lines that name it, in the order of the
// files, and whose it is.
type holding struct {
	user   string // "": nobody's, because several have it
	lines  []*line
	rivals []string // users whose usable lines name it; nil for one user
}

// build makes the set of sources, whose problems come on top of general ones.
// before is the set until now, nil at start: a key under several users stays
// with who held it.
func build(sources []*source, general []Problem, before *set) *set {
	n := 0
	for _, src := range sources {
		n += len(src.lines)
	}
	s := &set{keys: make(map[digest]*holding, n), cas: map[digest][]*line{},
		problems: general, changed: make(chan struct{})}
	for _, src := range sources {
		s.problems = append(s.problems, src.problems()...)
		for _, l := range src.lines {
			s.add(l)
		}
	}
	s.settle(before)
	return s
}

// add sorts l in. An authority may serve several users, by the names in its
// certificates; a login key belongs to one.
func (s *set) add(l *line) {
	if l.options.CertAuthority {
		s.cas[l.key] = append(s.cas[l.key], l)
		return
	}
	h := s.keys[l.key]
	if h != nil && l.implied && !h.lines[0].implied {
		return // what the folder says of a key stands; its files come first
	}
	if h == nil {
		h = &holding{user: l.user}
		s.keys[l.key] = h
	}
	h.lines = append(h.lines, l)
	if l.user != h.user && h.rivals == nil {
		h.rivals = []string{}
	}
}

// settle decides about the keys that more than one user's file names. A
// refused line gives nobody a claim.
func (s *set) settle(before *set) {
	for d, h := range s.keys {
		if h.rivals == nil {
			continue
		}
		h.rivals = claimants(h.lines)
		switch {
		case len(h.rivals) == 1:
			h.user = h.rivals[0]
		case len(h.rivals) > 1:
			h.user = before.holder(d, h.rivals)
			s.problems = append(s.problems, h.problem(d))
		}
	}
	slices.SortFunc(s.problems, compareProblems)
}

// claimants are the users whose usable lines name one key.
func claimants(lines []*line) (users []string) {
	for _, l := range lines {
		if l.refusal == "" && !slices.Contains(users, l.user) {
			users = append(users, l.user)
		}
	}
	return users
}

// holder is which of users held d in s, or "".
func (s *set) holder(d digest, users []string) string {
	if s == nil || s.keys[d] == nil || !slices.Contains(users, s.keys[d].user) {
		return ""
	}
	return s.keys[d].user
}

func (h *holding) problem(d digest) Problem {
	outcome := "neither gets it"
	if h.user != "" {
		outcome = h.user + " keeps it"
	}
	last := h.lines[len(h.lines)-1]
	return Problem{File: last.file, Line: last.number, Fatal: true, Message: fmt.Sprintf(
		"key %s stands under %s (first at %s): %s; take it out of all but one",
		d, strings.Join(h.rivals, " and "), h.lines[0].source(), outcome)}
}

func compareProblems(a, b Problem) int {
	return cmp.Or(strings.Compare(a.File, b.File), a.Line-b.Line, strings.Compare(a.Message, b.Message))
}

// users counts each user's distinct usable keys at now.
func (s *set) users(now time.Time) []User {
	count := map[string]int{}
	for _, h := range s.keys {
		if usable(h.user, h.lines, now) {
			count[h.user]++
		}
	}
	for _, lines := range s.cas {
		for _, name := range claimants(lines) {
			if usable(name, lines, now) {
				count[name]++
			}
		}
	}
	users := make([]User, 0, len(count))
	for _, name := range slices.Sorted(maps.Keys(count)) {
		users = append(users, User{Name: name, Keys: count[name]})
	}
	return users
}

// usable reports whether one of lines is user's and can be used at now.
func usable(user string, lines []*line, now time.Time) bool {
	return user != "" && slices.ContainsFunc(lines, func(l *line) bool {
		return l.user == user && l.refusal == "" && !l.expired(now)
	})
}

// expired reports that the line's expiry-time has passed.
func (l *line) expired(now time.Time) bool {
	return !l.options.expires.IsZero() && !now.Before(l.options.expires)
}
