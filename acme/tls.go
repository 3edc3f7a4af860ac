package acme

import (
	"crypto/tls"
	"net"

	"github.com/mholt/acmez/v3"
)

// suites are TLS 1.2's: forward secret and authenticated encryption only. TLS
// 1.3's are not to be chosen.
var suites = []uint16{
	tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
	tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384, tls.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
	tls.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256, tls.TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
}

// TLSConfig is what visitors are served with: TLS 1.2 and later, h2 and
// http/1.1. A name without a certificate gets the alert unrecognized_name (RFC
// 6066 section 3) at once; no handshake ever orders one. A visitor who offers
// acme-tls/1 alone gets the pending challenge's certificate: such a connection
// carries nothing and is to be closed after the handshake (RFC 8737 section 3).
//
// It is one value for all callers: clone it before changing it.
func (m *Manager) TLSConfig() *tls.Config { return m.tls }

// config makes the two profiles: the visitors' own, and the CA's, which a
// visitor's offer can never select by accident.
func (m *Manager) config() *tls.Config {
	validation := &tls.Config{
		MinVersion:             tls.VersionTLS12,
		NextProtos:             []string{acmez.ACMETLS1Protocol},
		GetCertificate:         m.challenge,
		SessionTicketsDisabled: true,
	}
	return &tls.Config{
		MinVersion:     tls.VersionTLS12,
		CipherSuites:   suites,
		NextProtos:     []string{"h2", "http/1.1"},
		GetCertificate: m.certificate,
		GetConfigForClient: func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
			if isValidation(hello) {
				return validation, nil
			}
			return nil, nil
		},
	}
}

// isValidation says whether hello is a CA's: "a single protocol name", RFC
// 8737 section 3.
func isValidation(hello *tls.ClientHelloInfo) bool {
	return len(hello.SupportedProtos) == 1 && hello.SupportedProtos[0] == acmez.ACMETLS1Protocol
}

// certificate is GetCertificate for visitors. Nothing and no error is how
// crypto/tls is told to answer unrecognized_name.
func (m *Manager) certificate(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	if hello.ServerName == "" || net.ParseIP(hello.ServerName) != nil { // an address is no name there, and some send one
		return m.from.certificate("", hello), nil
	}
	name, ok := hostname(hello.ServerName)
	if !ok {
		return nil, nil
	}
	return m.from.certificate(name, hello), nil
}

// challenge is GetCertificate for a CA's validation.
func (m *Manager) challenge(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	a, is := m.from.(*managed)
	name, ok := hostname(hello.ServerName)
	if !is || !ok {
		return nil, nil
	}
	return a.solvers.alpn(name), nil
}
