package gateway

import (
	"log/slog"
	"net/netip"
	"time"

	"adit/sshd"
)

// Config is everything an operator can set. The zero value is the local
// preset (loopback addresses, names under localhost); setting Domain
// chooses the public preset. In every field the empty or zero value means "as
// the preset has it", so that a field names only what is changed.
//
// An address is host:port, a bare :port (all addresses), or "off", which
// closes that listener. Several addresses are separated by commas.
type Config struct {
	// Domain is the domain under which names are given, "gw.example.com".
	// Empty: the local preset, whose domain is "localhost".
	Domain string
	// State is the state folder, made with mode 0700 on first start.
	// Empty: see DefaultState.
	State string

	// SSH, HTTP, HTTPS and Admin are the listening addresses. Local preset:
	// 127.0.0.1 and ::1, ports 2222, 7080 and 7443; public: all addresses,
	// ports 22, 80 and 443. Admin is 127.0.0.1:9180 in both.
	SSH, HTTP, HTTPS, Admin string
	// PublicSSH, PublicHTTP and PublicHTTPS are the ports that are shown to
	// users, where a NAT or a proxy moves them. 0: the port listened on.
	PublicSSH, PublicHTTP, PublicHTTPS int

	// ProxyProtocolFrom are the proxies that speak for others on the SSH, HTTP,
	// HTTPS and TCP tunnels' ports: each of their connections must begin with a
	// PROXY protocol header, whose address is then the client's or visitor's.
	// From anybody else such a header is not taken. Empty: nobody.
	ProxyProtocolFrom []netip.Prefix
	// TrustedProxies are the proxies whose X-Forwarded-For, X-Forwarded-Proto
	// and X-Forwarded-Host are believed. Empty: nobody.
	TrustedProxies []netip.Prefix

	// TCPHost is the address that TCP tunnels listen on. Local preset:
	// 127.0.0.1 and ::1; public: all addresses.
	TCPHost string
	// TCPPorts is the range of public TCP ports, "20000-29999" if empty;
	// "off" closes TCP tunnels.
	TCPPorts string

	// TLS is how certificates are had: "acme", "internal", "files", or "off",
	// which closes HTTPS, as HTTPS "off" does. Local preset: internal; public:
	// acme.
	TLS string
	// Redirect, "on" or "off", answers plain http with 308 while HTTPS is
	// open. Local preset: off; public: on.
	Redirect string
	// HTTP3, "on" or "off", is HTTP/3 over UDP on the HTTPS addresses. Empty:
	// on.
	HTTP3 string
	// ACME is how the CA of TLS "acme" is spoken to.
	ACME ACME
	// DNSResolver is the host:port asked for the TXT records of custom domains,
	// and for what DNS-01 needs. Empty: the system's.
	DNSResolver string
	// CertDir is where TLS "files" finds NAME.crt and NAME.key.
	CertDir string

	// Ciphers are the SSH ciphers offered to every client, in this form. Empty:
	// the offer is made for each client, so that those that have AES-GCM use
	// it where the machine does it in hardware. Ciphers() lists the names.
	Ciphers []string

	// Logger receives one event a record. nil: slog.Default().
	Logger *slog.Logger

	// BeforeWrite is called, if not nil, before something is written to the
	// state's database or to its certificates: until the disk has it a processor
	// may have nothing else to do. It may be called by several goroutines at
	// once.
	BeforeWrite func()

	// NameTTL is how long a chosen name or a TCP port stays its user's after
	// the last use. 0: 30 days.
	NameTTL time.Duration
	// MaxNames and MaxPorts bound what one user may own. 0: 20 and 10.
	MaxNames, MaxPorts int
	// ReservedNames are names that nobody may take, beside those that are
	// reserved anyway (reservedNames).
	ReservedNames []string

	// Park is how long a visitor's request waits for a tunnel that was lost
	// less than a minute ago. 0: 10 s; negative: requests do not wait.
	Park time.Duration
	// ResponseTimeout is how long the local service may take to answer with
	// headers. 0: 60 s.
	ResponseTimeout time.Duration
	// StallTimeout is how long a party may take none of the bytes it was
	// sent. 0: 60 s.
	StallTimeout time.Duration
	// LoginGrace bounds the whole SSH handshake, key exchange and
	// authentication. 0: 30 s.
	LoginGrace time.Duration
	// Drain is how long requests in flight may take after SIGTERM. 0: 30 s.
	Drain time.Duration

	// KeyFiles are public key files that may log in as KeyUser, beside the
	// state folder's authorized_keys, or patterns for them as keys.Config has
	// them. The command fills them in the local preset with the invoking
	// account's ~/.ssh/id_*.pub.
	KeyFiles []string
	// KeyUser is the user that KeyFiles belong to: the invoking account.
	KeyUser string
}

// ACME is an account with a CA (RFC 8555), and how it finds out that names
// are ours. Every field may be empty.
type ACME struct {
	// Email is the account's contact.
	Email string
	// CA is the directory's URL. Empty: Let's Encrypt.
	CA string
	// CARoot is a PEM file with the roots that the CA's own https is checked
	// against. Empty: the system's.
	CARoot string
	// EAB is the external account binding, "KID:KEY".
	EAB string
	// NamesPerDay bounds new names in 24 hours; a user may have half. 0: 6.
	NamesPerDay int
	// DNS is how DNS-01 records are made, "rfc2136" or "exec", with which one
	// wildcard covers all names. Empty: a certificate for each name.
	DNS string
	// DNSServer, HOST:PORT, takes the updates of "rfc2136"; DNSKey signs them,
	// "NAME:ALG:SECRET" (RFC 8945).
	DNSServer, DNSKey string
	// DNSExec is the program of "exec".
	DNSExec string
}

// Ciphers are the SSH ciphers that can be offered.
func Ciphers() []string { return sshd.Ciphers() }

// Version is what `adit version` and the SSH version line say.
var Version = "0.1.0"
