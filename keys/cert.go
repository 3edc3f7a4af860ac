package keys

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"golang.org/x/crypto/ssh"
)

// certOptions is what a certificate itself allows: extensions grant, critical
// options restrict (OpenSSH, PROTOCOL.certkeys).
type certOptions struct {
	portForwarding, pty, noTouchRequired bool
}

// errPrincipal is a certificate for somebody else.
var errPrincipal = errors.New("has a certificate that does not name the user")

// readCertificate checks all of a certificate that does not depend on the
// line that trusts its authority.
func readCertificate(a *attempt) (certOptions, error) {
	c := a.cert
	if err := checkKeys(c); err != nil {
		return certOptions{}, err
	}
	if c.CertType != ssh.UserCert {
		return certOptions{}, errors.New("has a certificate that is no user certificate")
	}
	if err := checkValidity(c, a.now); err != nil {
		return certOptions{}, err
	}
	if err := checkCritical(a); err != nil {
		return certOptions{}, err
	}
	opts, err := readExtensions(c.Extensions)
	if err != nil {
		return certOptions{}, err
	}
	return opts, checkSignature(c, a.now)
}

// checkKeys holds the certified key and the authority's to the rules for
// lines, and refuses a signature made with SHA-1.
func checkKeys(c *ssh.Certificate) error {
	if c.Signature == nil || c.Signature.Format == ssh.KeyAlgoRSA {
		return errors.New("has a certificate signed with SHA-1")
	}
	for _, k := range []ssh.PublicKey{c.Key, c.SignatureKey} {
		if reason := refusedKey(k); reason != "" {
			return errors.New(reason)
		}
	}
	return nil
}

// checkValidity compares whole seconds; ValidBefore itself is too late.
func checkValidity(c *ssh.Certificate, now time.Time) error {
	t := uint64(max(now.Unix(), 0))
	switch {
	case len(c.ValidPrincipals) == 0:
		return errors.New("has a certificate without principals")
	case t < c.ValidAfter:
		return errors.New("has a certificate that is not valid yet")
	case t >= c.ValidBefore:
		return fmt.Errorf("has a certificate that %w", expiredOn(certExpiry(c)))
	}
	return nil
}

// certExpiry is ValidBefore. Zero: never, which is what ssh-keygen writes as
// the largest number and anything past the year 70,000 comes to.
func certExpiry(c *ssh.Certificate) time.Time {
	if c.ValidBefore > math.MaxUint32<<9 {
		return time.Time{}
	}
	return time.Unix(int64(c.ValidBefore), 0)
}

// The critical option that is honoured.
const sourceAddress = "source-address"

// checkCritical refuses what it cannot honour, force-command among it.
func checkCritical(a *attempt) error {
	for name, value := range a.cert.CriticalOptions {
		if name != sourceAddress {
			return fmt.Errorf("has a certificate with critical option %s, which adit cannot honour", quoteForeign(name))
		}
		list, err := parseSourceAddress(value)
		if err != nil {
			return errors.New("has a certificate with a malformed source-address")
		}
		if !list.allows(a.from) {
			return errAddress
		}
	}
	return nil
}

// quoteForeign names an option of a certificate if it is a known one: other
// text came from the client.
func quoteForeign(name string) string {
	if slices.Contains([]string{"force-command", "verify-required"}, name) {
		return quote(name)
	}
	return "of an unknown kind"
}

// readExtensions takes the known ones, none of which has a value. Others may
// be ignored.
func readExtensions(ext map[string]string) (o certOptions, err error) {
	for name, value := range ext {
		known := true
		switch name {
		case "permit-port-forwarding":
			o.portForwarding = true
		case "permit-pty":
			o.pty = true
		case "no-touch-required":
			o.noTouchRequired = true
		case "permit-agent-forwarding", "permit-X11-forwarding", "permit-user-rc":
		default:
			known = false
		}
		if known && value != "" {
			return o, errors.New("has a certificate with a malformed extension")
		}
	}
	return o, nil
}

// checkSignature verifies what the authority signed.
func checkSignature(c *ssh.Certificate, now time.Time) error {
	checker := ssh.CertChecker{
		SupportedCriticalOptions: []string{sourceAddress},
		Clock:                    func() time.Time { return now },
	}
	if err := checker.CheckCert(c.ValidPrincipals[0], c); err != nil {
		return errors.New("has a certificate that does not verify")
	}
	return nil
}

// certifiedBy decides about a certificate by one line of its authority.
func (a *attempt) certifiedBy(l *line) error {
	if err := a.allowedBy(l); err != nil {
		return err
	}
	allowed := l.options.Principals
	if allowed == nil {
		allowed = []string{l.user}
	}
	for _, p := range a.cert.ValidPrincipals {
		if slices.Contains(allowed, p) {
			return nil
		}
	}
	return errPrincipal
}

// certifiedKey joins line and certificate: permissions must stand in both,
// the lists and limits are the line's, and the earlier end counts.
func (a *attempt) certifiedKey(l *line, ca digest, c certOptions) *Key {
	o := *l.options
	o.PortForwarding = o.PortForwarding && c.portForwarding
	o.PTY = o.PTY && c.pty
	o.NoTouchRequired = o.NoTouchRequired && c.noTouchRequired
	expires := certExpiry(a.cert)
	if expires.IsZero() || !o.expires.IsZero() && o.expires.Before(expires) {
		expires = o.expires
	}
	fp := ca.String()
	return &Key{User: l.user, Fingerprint: fp, Identity: fp + " " + l.user, Options: o,
		Expires: expires, Source: l.source(), offered: a.key}
}
