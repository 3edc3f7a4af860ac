package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strconv"
)

// timerSlack is by how many nanoseconds a timer of the kernel's may be late
// (PR_SET_TIMERSLACK, prctl(2)); none of ours is finer.
const timerSlack = 1_000_000

// coarseTimers sets timerSlack for every thread there is, which new ones
// inherit. After each moment without work the runtime's monitor thread sleeps
// for 20 us, to see whether there is none, and with the kernel's 50 us of slack
// does so thousands of times a second: a quarter of what short connections
// cost. Another thread's slack, as that one's, may be set only with CAP_SYS_NICE;
// without it the service manager can (systemd's TimerSlackNSec).
func coarseTimers() {
	threads, _ := filepath.Glob("/proc/self/task/*")
	for _, t := range threads {
		file := filepath.Join("/proc", filepath.Base(t), "timerslack_ns")
		if now, err := os.ReadFile(file); err == nil && slackOf(now) < timerSlack {
			os.WriteFile(file, strconv.AppendInt(nil, timerSlack, 10), 0)
		}
	}
}

// slackOf reads what the file says; what is no number is none to be changed.
func slackOf(text []byte) int64 {
	n, err := strconv.ParseInt(string(bytes.TrimSpace(text)), 10, 64)
	if err != nil {
		return timerSlack
	}
	return n
}
