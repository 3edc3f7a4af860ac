//go:build !linux

package tcp

import "net"

// listener opens what Listen gives.
var listener = net.ListenConfig{KeepAliveConfig: net.KeepAliveConfig{
	Enable: true, Idle: keepalivePause, Interval: keepalivePause, Count: keepaliveProbes,
}}
