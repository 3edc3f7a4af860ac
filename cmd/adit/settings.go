package main

import (
	"adit/gateway"
)

// settings is everything an operator can set. gateway.Config says at length
// what each means; an empty one is as the preset has it. The field's name in
// kebab-case is the flag and the key of the configuration file, and with
// ADIT_ before it the environment variable.
type settings struct {
	Config path `placeholder:"FILE" help:"YAML file with these flags as keys."`

	Domain domain `placeholder:"NAME" help:"Domain under which names are given; it chooses the public preset. Default: the local preset, *.localhost."`
	State  path   `placeholder:"DIR" help:"State folder."`

	SSH   addresses `placeholder:"ADDR" help:"Where to take SSH: HOST:PORT or :PORT, several with commas, or off. Local: 127.0.0.1:2222,[::1]:2222; public: :22."`
	HTTP  addresses `placeholder:"ADDR" help:"Where to take HTTP. Local: 127.0.0.1:7080,[::1]:7080; public: :80."`
	HTTPS addresses `placeholder:"ADDR" help:"Where to take HTTPS, and SSH too: the first bytes tell. Local: 127.0.0.1:7443,[::1]:7443; public: :443."`
	Admin addresses `placeholder:"ADDR" help:"Where health, metrics and profiles are. Default: 127.0.0.1:9180."`

	PublicSSH   port `placeholder:"PORT" help:"SSH port that users are shown, where a NAT or a proxy moves it."`
	PublicHTTP  port `placeholder:"PORT" help:"HTTP port that users are shown."`
	PublicHTTPS port `placeholder:"PORT" help:"HTTPS port that users are shown."`

	ProxyProtocolFrom networks `placeholder:"CIDR,..." help:"Proxies whose connections, to any port but admin, begin with a PROXY protocol header, v1 or v2. Default: none."`
	TrustedProxies    networks `placeholder:"CIDR,..." help:"Proxies whose X-Forwarded-For, -Proto and -Host are believed. Default: none."`

	TCPHost  hosts     `placeholder:"IP" help:"Address that TCP tunnels listen on, several with commas. Local: loopback; public: all."`
	TCPPorts portRange `placeholder:"A-B" help:"Public TCP ports, or off. Default: 20000-29999."`

	TLS      tlsMode `placeholder:"MODE" help:"Where certificates come from: acme, internal, files, or off, which is plain HTTP only. Local: internal; public: acme."`
	HTTP3    onOff   `name:"http3" placeholder:"on|off" help:"HTTP/3, by UDP on the HTTPS port. Default: on."`
	Redirect onOff   `placeholder:"on|off" help:"Send plain http to https while HTTPS is open. Local: off; public: on."`

	ACMEEmail       text     `name:"acme-email" placeholder:"MAIL" help:"Contact of the ACME account."`
	ACMECA          webURL   `name:"acme-ca" placeholder:"URL" help:"Directory of the ACME CA. Default: Let's Encrypt."`
	ACMECARoot      path     `name:"acme-ca-root" placeholder:"FILE" help:"PEM file with the roots that the CA's own https is checked against."`
	ACMEEAB         secret   `name:"acme-eab" placeholder:"KID:KEY" help:"External account binding."`
	ACMENamesPerDay count    `name:"acme-names-per-day" placeholder:"N" help:"New names that get a certificate within 24 hours; one user may have half. Default: 6."`
	DNS             dnsMode  `name:"dns" placeholder:"rfc2136|exec" help:"How DNS-01 records are made, for one wildcard certificate. Default: none, and a certificate for each name."`
	DNSServer       hostPort `name:"dns-server" placeholder:"HOST:PORT" help:"Name server that takes the updates of --dns rfc2136."`
	DNSKey          tsigKey  `name:"dns-key" placeholder:"NAME:ALG:SECRET" help:"TSIG key that signs them. Better in the file or the environment: others see command lines."`
	DNSExec         path     `name:"dns-exec" placeholder:"PROGRAM" help:"Program of --dns exec, called as PROGRAM present|cleanup FQDN VALUE."`
	DNSResolver     hostPort `name:"dns-resolver" placeholder:"HOST:PORT" help:"Name server asked for the records of custom domains and of DNS-01. Default: the system's."`
	CertDir         path     `name:"cert-dir" placeholder:"DIR" help:"Folder with NAME.crt and NAME.key for --tls files."`

	Ciphers ciphers `placeholder:"NAME,..." help:"SSH ciphers offered, in this form to everybody. Default: for each client the fastest that it has."`

	Log      logFormat `placeholder:"text|json" help:"Form of the log. Default: text."`
	LogLevel logLevel  `placeholder:"LEVEL" help:"debug, info, warn or error. Default: info."`

	NameTTL       duration `placeholder:"TIME" help:"How long a name or port stays its user's after the last use, as 30d or 12h. Default: 30d."`
	MaxNames      count    `placeholder:"N" help:"Names that one user may own. Default: 20."`
	MaxPorts      count    `placeholder:"N" help:"TCP ports that one user may own. Default: 10."`
	ReservedNames names    `placeholder:"NAME,..." help:"Names that nobody may take, beside those that are reserved anyway."`

	Park            patience `placeholder:"TIME" help:"How long a request waits for a tunnel that was just lost; 0: not at all. Default: 10s."`
	ResponseTimeout duration `placeholder:"TIME" help:"How long the local service may take to begin its answer. Default: 60s."`
	StallTimeout    duration `placeholder:"TIME" help:"How long a party may take none of the bytes sent to it. Default: 60s."`
	LoginGrace      duration `placeholder:"TIME" help:"How long an SSH login may take. Default: 30s."`
	Drain           patience `placeholder:"TIME" help:"How long requests in flight may take after SIGTERM; 0: they are cut. Default: 30s."`
}

// gatewayConfig is the settings as the gateway takes them. The defaults that
// depend on the account and its environment are filled in here. Values that do
// not go together are a wrong command line, wherever they were set.
func (s *settings) gatewayConfig(env map[string]string) (gateway.Config, error) {
	c := s.plainConfig()
	err := c.Validate()
	if err != nil {
		return c, usageError{err}
	}
	if c.State, err = s.stateDir(); err != nil {
		return c, err
	}
	if s.Domain == "" {
		c.KeyFiles = publicKeys(home(env))
		c.KeyUser = accountUser()
	}
	return c, nil
}

// plainConfig is the settings that are copied as they stand.
func (s *settings) plainConfig() gateway.Config {
	return gateway.Config{
		Domain: string(s.Domain),
		SSH:    string(s.SSH), HTTP: string(s.HTTP), HTTPS: string(s.HTTPS), Admin: string(s.Admin),
		PublicSSH: int(s.PublicSSH), PublicHTTP: int(s.PublicHTTP), PublicHTTPS: int(s.PublicHTTPS),
		ProxyProtocolFrom: s.ProxyProtocolFrom.list(), TrustedProxies: s.TrustedProxies.list(),
		TCPHost: string(s.TCPHost), TCPPorts: string(s.TCPPorts),
		TLS: string(s.TLS), Redirect: string(s.Redirect), HTTP3: string(s.HTTP3),
		ACME: gateway.ACME{
			Email: string(s.ACMEEmail), CA: string(s.ACMECA), CARoot: string(s.ACMECARoot), EAB: string(s.ACMEEAB),
			NamesPerDay: int(s.ACMENamesPerDay), DNS: string(s.DNS), DNSServer: string(s.DNSServer),
			DNSKey: string(s.DNSKey), DNSExec: string(s.DNSExec),
		},
		DNSResolver: string(s.DNSResolver), CertDir: string(s.CertDir),
		Ciphers: s.Ciphers.list(),
		NameTTL: s.NameTTL.Duration, MaxNames: int(s.MaxNames), MaxPorts: int(s.MaxPorts),
		ReservedNames: s.ReservedNames.list(),
		Park:          s.Park.Duration, ResponseTimeout: s.ResponseTimeout.Duration,
		StallTimeout: s.StallTimeout.Duration, LoginGrace: s.LoginGrace.Duration, Drain: s.Drain.Duration,
	}
}
