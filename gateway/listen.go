package gateway

import (
	"errors"
	"fmt"
	"net"
	"strings"
	"syscall"

	"adit/tcp"
)

// listen opens every listener, and reports every failure.
func (g *Gateway) listen() error {
	var errs []error
	open := func(addrs []string, what, flag string) []net.Listener {
		lns, err := listenAll(addrs, what, flag)
		errs = append(errs, err)
		return lns
	}
	g.lns.ssh = open(g.cfg.ssh, "SSH", "ssh")
	g.lns.http = open(g.cfg.http, "HTTP", "http")
	g.lns.https = open(g.cfg.https, "HTTPS", "https")
	errs = append(errs, g.listenQUIC())
	g.lns.admin = open(g.cfg.admin, "the admin listener", "admin")
	if err := g.cfg.tryTCPHosts(); err != nil {
		errs = append(errs, fmt.Errorf("TCP tunnels: %w", err))
	}
	https := shown(g.cfg.PublicHTTPS, g.lns.https, 443)
	ssh := 22
	if len(g.lns.ssh) == 0 && len(g.lns.https) > 0 {
		ssh = https // which answers it too
	}
	g.ports = ports{shown(g.cfg.PublicSSH, g.lns.ssh, ssh), shown(g.cfg.PublicHTTP, g.lns.http, 80), https}
	return errors.Join(errs...)
}

// listenAll opens one listener's addresses. Those that the machine lacks are left
// out, as long as one is left.
func listenAll(addrs []string, what, flag string) (lns []net.Listener, err error) {
	var missing, errs []error
	for _, a := range addrs {
		host, _, _ := net.SplitHostPort(a)
		got, err := tcp.Listen([]string{host}, portOf(a))
		switch {
		case isNoAddress(err):
			missing = append(missing, portError(err, a, what, flag))
		case err != nil:
			errs = append(errs, portError(err, a, what, flag))
		}
		lns = append(lns, got...)
	}
	if len(lns) == 0 {
		errs = append(errs, missing...)
	}
	return lns, errors.Join(errs...)
}

// tryTCPHosts looks, before a tunnel needs it, for an address that TCP tunnels can
// listen on.
func (s *settings) tryTCPHosts() error {
	if s.ports.Len() == 0 {
		return nil
	}
	lns, err := tcp.Listen(s.tcpHosts, 0)
	tcp.Close(lns)
	if err != nil {
		return fmt.Errorf("they cannot listen on %s: %w. Use an address of this machine with --tcp-host, or close them with --tcp-ports off", hosts(s.tcpHosts), err)
	}
	return nil
}

// shown is the port users are told: the configured one, else the one that is
// listened on.
func shown(public int, lns []net.Listener, otherwise int) int {
	switch {
	case public != 0:
		return public
	case len(lns) > 0:
		return lns[0].Addr().(*net.TCPAddr).Port
	}
	return otherwise
}

// hasAddress reports whether the machine has a host's address.
func hasAddress(host string) bool {
	lns, err := tcp.Listen([]string{host}, 0)
	tcp.Close(lns)
	return !isNoAddress(err)
}

// isNoAddress reports whether the machine lacks the address, as ::1 where
// IPv6 is off; the preset's other address will do then.
func isNoAddress(err error) bool {
	return errors.Is(err, syscall.EADDRNOTAVAIL) || errors.Is(err, syscall.EAFNOSUPPORT)
}

// portError says which port, what for, and the flag that moves it.
func portError(err error, addr, what, flag string) error {
	port := portOf(addr)
	switch {
	case errors.Is(err, syscall.EADDRINUSE) && port == 22:
		return fmt.Errorf("port 22 (%s) is taken, most likely by this machine's own sshd. Move adit with --%s :2222, or sshd with Port in sshd_config", what, flag)
	case errors.Is(err, syscall.EADDRINUSE):
		return fmt.Errorf("port %d (%s) is taken by another program. Free it, or use another one with --%s ADDRESS:PORT", port, what, flag)
	case errors.Is(err, syscall.EACCES):
		return fmt.Errorf("port %d (%s) may not be opened: ports below 1024 need root or CAP_NET_BIND_SERVICE. Use another one with --%s ADDRESS:PORT", port, what, flag)
	}
	return fmt.Errorf("port %d (%s) cannot be opened at %s: %w. Use another address with --%s", port, what, addr, err, flag)
}

// Banner is the start block: addresses, domain, users, and the line to try.
func (g *Gateway) Banner() string {
	var b strings.Builder
	row := func(name, value string) { fmt.Fprintf(&b, "  %-8s %s\n", name, value) }
	fmt.Fprintf(&b, "adit %s\n", Version)
	row("SSH", addresses(g.lns.ssh))
	row("HTTP", addresses(g.lns.http))
	row("HTTPS", addresses(g.lns.https)+g.alsoQUIC())
	if g.certs != nil {
		g.certRows(row)
	}
	g.proxyRows(row)
	row("TCP", g.tcpPorts())
	row("admin", addresses(g.lns.admin))
	row("domain", g.cfg.domain)
	row("state", g.state.dir)
	n := len(g.keys.Users())
	row("users", fmt.Sprint(n))
	b.WriteString("\n")
	switch {
	case len(g.lns.ssh)+len(g.lns.https) == 0:
		b.WriteString("SSH is off, so nobody can open a tunnel. Open it with --ssh ADDRESS:PORT, or HTTPS, which answers it too.\n")
	case n == 0:
		b.WriteString(g.noUsers())
	default:
		b.WriteString("Share your local port 8080:\n\n  " + g.example() + "\n")
	}
	return b.String()
}

// tcpPorts says which public TCP ports there are.
func (g *Gateway) tcpPorts() string {
	if g.cfg.ports.Len() == 0 {
		return "off"
	}
	return "ports " + g.cfg.ports.String() + " on " + hosts(g.cfg.tcpHosts)
}

// alsoQUIC says that the HTTPS port has HTTP/3 too.
func (g *Gateway) alsoQUIC() string {
	if len(g.lns.quic) == 0 {
		return ""
	}
	return ", with HTTP/3 by UDP"
}

// noUsers says how the first user comes to be.
func (g *Gateway) noUsers() string {
	if g.cfg.local {
		return "You have no ssh key yet. Make one:\n\n  ssh-keygen -t ed25519\n\nthen:\n\n  " + g.example() + "\n"
	}
	return fmt.Sprintf("There is no user yet. Add one:\n\n  adit keys add NAME NAME.pub --state %s\n\nwho then types:\n\n  %s\n", g.state.dir, g.example())
}

func addresses(lns []net.Listener) string {
	if len(lns) == 0 {
		return "off"
	}
	list := make([]string, len(lns))
	for i, ln := range lns {
		list[i] = ln.Addr().String()
	}
	return strings.Join(list, ", ")
}

func hosts(list []string) string {
	if len(list) == 1 && list[0] == "" {
		return "all addresses"
	}
	return strings.Join(list, ", ")
}
