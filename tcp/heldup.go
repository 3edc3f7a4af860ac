package tcp

import "time"

const (
	// lateness is by how much a timer may be late before its process must have
	// been held up: stopped, moved to another machine, or starved of the CPU.
	lateness = time.Second
	// Grace is what a limit is extended by that ran out while the process was
	// held up.
	Grace = 3 * time.Second
)

// HeldUp reports whether what was due at a time is noticed so late that the
// process itself was held up. What was waited for may then have come long ago,
// and be unread.
func HeldUp(due time.Time) bool { return time.Since(due) > lateness }
