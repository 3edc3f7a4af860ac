package gateway

import (
	"fmt"
	"strconv"
)

// refusal is a forward that cannot be had: a code for programs, and a
// sentence that says the fix.
type refusal struct {
	Code, Message string
}

func refuse(code, format string, args ...any) *refusal {
	return &refusal{code, "adit: " + fmt.Sprintf(format, args...)}
}

// The refusals. Each names what was asked for and what to type instead.

func refuseNameTaken(name string, port uint32) *refusal {
	return refuse("in_use", "%q is in use by another user. %s", name, pickAnother(port))
}

func refuseNotDerived(name string, port uint32) *refusal {
	return refuse("in_use", "%q has the shape of a default name, which only the key it is made from may have. %s", name, pickAnother(port))
}

func refuseReserved(name string, port uint32) *refusal {
	return refuse("reserved", "%q is reserved. %s", name, pickAnother(port))
}

func refuseBadName(name, why string, port uint32) *refusal {
	return refuse("bad_name", "\"%s\" cannot be a name: %s. %s", printable(name, 80), why, pickAnother(port))
}

// pickAnother is the fix where a name cannot be had on the port that was asked
// for.
func pickAnother(port uint32) string {
	return fmt.Sprintf("Pick another name: -R NAME:%d:...", namedPort(port))
}

// namedPort is the port to suggest with a name to who asked for port: the same,
// unless no name has that.
func namedPort(port uint32) uint32 {
	if port == 0 || port == 443 {
		return port
	}
	return 80
}

func refuseKey(asked string, allowed string) *refusal {
	return refuse("not_permitted", "your key may not use \"%s\" (allowed: %s)", printable(asked, 80), printable(allowed, 200))
}

func refuseForwarding() *refusal {
	return refuse("not_permitted", "your key may not open tunnels (no-port-forwarding)")
}

func refuseTwice(port uint32) *refusal {
	if port == 80 {
		return refuse("twice", "port 80 was asked for twice; ssh can only reach the first. Name them: -R a:80:... -R b:80:...")
	}
	return refuse("twice", "port %d was asked for twice; ssh can only reach the first. Use another port, or -R 0:HOST:PORT for any free port", port)
}

func refuseNameTwice(name string, port uint32) *refusal {
	return refuse("twice", "%q was asked for twice on this connection. Name them apart: -R a:%[2]d:... -R b:%[2]d:...", asked(name, port), namedPort(port))
}

func refusePortRange(port uint32, allowed string) *refusal {
	switch {
	case allowed == "off" && port == 0:
		return refuse("port_range", "this gateway has no TCP tunnels. Use -R 80:HOST:PORT for http")
	case allowed == "off":
		return refuse("port_range", "TCP port %d cannot be had: this gateway has no TCP tunnels. Use -R 80:HOST:PORT for http", port)
	}
	return refuse("port_range", "TCP port %d is outside %s. Use -R 0:HOST:PORT for any free port", port, allowed)
}

func refusePortTaken(port int) *refusal {
	return refuse("in_use", "TCP port %d is in use by another user. Use -R 0:HOST:PORT for any free port", port)
}

func refusePortBusy(port int) *refusal {
	return refuse("in_use", "TCP port %d is in use on the gateway's machine. Use -R 0:HOST:PORT for any free port", port)
}

func refuseListen(port int) *refusal {
	return refuse("listen", "TCP port %d could not be opened: the gateway's log says why. Try again later, or tell the operator", port)
}

func refuseNoPort(allowed string) *refusal {
	return refuse("no_port", "no TCP port is free in %s", allowed)
}

func refuseMaxNames(n int) *refusal {
	return refuse("limit", "you have %d names already, which is the limit. A name is free again when it was not used for a while; use one of yours, or -R 80:... for your default name", n)
}

func refuseMaxPorts(n int) *refusal {
	return refuse("limit", "you have %d TCP ports already, which is the limit. A port is free again when it was not used for a while; use one of yours", n)
}

func refuseMaxForwards(n int) *refusal {
	return refuse("limit", "a connection may have %d forwards. Open another connection for more", n)
}

func refuseMaxTunnels(n int) *refusal {
	return refuse("limit", "your key is limited to max-tunnels=%d at once. Close one first", n)
}

func refuseTakeovers(name string) *refusal {
	return refuse("takeovers", "%q was taken over three times within a minute by connections of yours, so the one that has it keeps it. Stop one of the two loops", name)
}

func refuseTLSName() *refusal {
	return refuse("unsupported", "a TLS tunnel needs a name: -R NAME:443:... For http use -R 80:...")
}

func refuseTLSOff(name string) *refusal {
	return refuse("unsupported", "%q cannot have port 443: this gateway has no HTTPS port. Use -R %s:80:... for http", name, name)
}

func refuseHTTPOff() *refusal {
	return refuse("unsupported", "this gateway has no HTTP port. Use -R 0:HOST:PORT for a public TCP port")
}

func refusePrivate(name string, port uint32) *refusal {
	return refuse("unsupported", "%q cannot have port %d: a name has port 80 for http, or 0 for a public TCP port: -R %s:0:...", name, port, name)
}

func refuseCustomPort(name string, port uint32) *refusal {
	return refuse("unsupported", "%s cannot have port %d: a domain of your own has port 80 for http, or 443 for TLS: -R %s:80:...", name, port, name)
}

func refuseNotProven(name, identity string) *refusal {
	return refuse("not_proven", "%s is not proven yours. Add: TXT _adit.%s \"%s\"", name, name, identity)
}

func refuseProofLookup(name, identity string, err error) *refusal {
	return refuse("not_proven", "%s is not proven yours. Add: TXT _adit.%s \"%s\". If it is there, try again: DNS gave no answer (%s)",
		name, name, identity, printable(err.Error(), 120))
}

func refuseStore(name string) *refusal {
	return refuse("store", "%q cannot be kept for you: the gateway could not write its state. Try again later, or tell the operator", name)
}

func refuseStopping() *refusal {
	return refuse("closing", "the gateway is stopping. Try again in a moment")
}

func refuseBusy() *refusal {
	return refuse("busy", "the gateway could not answer in time. Try again")
}

// asked is a forward as the user typed it, for sentences: "blog:80".
func asked(host string, port uint32) string {
	return host + ":" + strconv.FormatUint(uint64(port), 10)
}
