//go:build unix

package main

import (
	"syscall"
	"time"
)

// cpuTime is the CPU time that the process has used (getrusage(2)).
func cpuTime() (time.Duration, bool) {
	var r syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &r) != nil {
		return 0, false
	}
	return time.Duration(r.Utime.Nano() + r.Stime.Nano()), true
}
