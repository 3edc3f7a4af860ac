//go:build !linux

package main

// coarseTimers has nothing to set here.
func coarseTimers() {}
