package gateway

import "testing"

// A terminal that takes nothing may be told of one refusal after the other.
func TestLinesOwedAreBounded(t *testing.T) {
	se := &session{wake: make(chan struct{}, 1)}
	for range maxOwed + 3 {
		se.say(true, "adit: no")
	}
	if lines, dropped, _ := se.take(); len(lines) != maxOwed || dropped != 3 {
		t.Errorf("%d lines wait, %d were dropped", len(lines), dropped)
	}
}
