package keys

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"time"

	"golang.org/x/crypto/ssh"
)

// Authenticate says who key is when it comes from remote; the login name that
// came with it chooses nothing. That the client holds the private key is the
// caller's to verify. The error is a *Refusal.
func (s *Store) Authenticate(key ssh.PublicKey, remote net.Addr) (*Key, error) {
	return s.identify("", key, remote)
}

// Check says whether k, once authenticated, is still good under the present
// files and clock, and gives its present form, whose options may differ. It
// does not let an identity pass from one user to another. The error is a
// *Refusal.
func (s *Store) Check(k *Key, remote net.Addr) (*Key, error) {
	if k.offered == nil { // not made by Authenticate
		return nil, &Refusal{Fingerprint: k.Fingerprint, Reason: errUnknown.Error(), Unknown: true}
	}
	return s.identify(k.User, k.offered, remote)
}

// attempt is one key offered from one place at one moment.
type attempt struct {
	key  ssh.PublicKey
	cert *ssh.Certificate // nil for a plain key
	from netip.Addr
	now  time.Time
}

// identify finds who key is. user narrows that to one user; "": any.
func (s *Store) identify(user string, key ssh.PublicKey, remote net.Addr) (*Key, error) {
	a := &attempt{key: key, from: address(remote), now: s.now()}
	set := s.set.Load()
	var k *Key
	var err error
	if cert, ok := key.(*ssh.Certificate); ok {
		a.cert = cert
		k, err = set.certified(a, user)
	} else {
		k, err = set.plain(a, user)
	}
	if err != nil {
		return nil, a.refusal(err)
	}
	return k, nil
}

// errUnknown is a key that no line names.
var errUnknown = errors.New("is not registered here")

// errElsewhere is a key that has passed to another user.
var errElsewhere = errors.New("belongs to another user now")

func (a *attempt) refusal(err error) *Refusal {
	key := a.key
	if a.cert != nil {
		key = a.cert.Key
	}
	return &Refusal{
		Fingerprint: digestOf(key).String(),
		Reason:      err.Error(),
		Unknown:     errors.Is(err, errUnknown),
	}
}

// plain identifies a key that is no certificate. As in sshd, the first line
// that allows it counts.
func (s *set) plain(a *attempt, user string) (*Key, error) {
	d := digestOf(a.key)
	h := s.keys[d]
	switch {
	case h == nil && s.cas[d] != nil:
		return nil, errors.New("is a certificate authority's, which does not log in itself")
	case h == nil:
		return nil, errUnknown
	case h.user == "":
		return nil, errors.New("stands under more than one user, so that none of them has it")
	case user != "" && user != h.user:
		return nil, errElsewhere
	}
	l, err := firstLine(h.lines, h.user, a.allowedBy)
	if err != nil {
		return nil, err
	}
	fp := d.String()
	return &Key{User: l.user, Fingerprint: fp, Identity: fp, Options: *l.options,
		Expires: l.options.expires, Source: l.source(), offered: a.key}, nil
}

// firstLine is the first of user's lines that allows, else the first reason.
func firstLine(lines []*line, user string, allows func(*line) error) (*line, error) {
	var first error
	for _, l := range lines {
		if l.user != user {
			continue
		}
		err := allows(l)
		if err == nil {
			return l, nil
		}
		if first == nil {
			first = err
		}
	}
	return nil, first
}

// allowedBy decides by the options that any line may have.
func (a *attempt) allowedBy(l *line) error {
	switch {
	case l.refusal != "":
		return errors.New(l.refusal)
	case l.expired(a.now):
		return expiredOn(l.options.lastSecond())
	case l.options.from != nil && !l.options.from.allows(a.from):
		return errAddress
	}
	return nil
}

// errAddress is a from= or source-address that excludes the client.
var errAddress = errors.New("may not be used from this address")

func expiredOn(t time.Time) error {
	return fmt.Errorf("expired on %s", t.Format(time.DateOnly))
}

// certified identifies a certificate by the lines of its authority. It must
// fit one user: a certificate that fits several says too little about whose
// tunnels these will be.
func (s *set) certified(a *attempt, user string) (*Key, error) {
	ca := digestOf(a.cert.SignatureKey)
	lines := s.cas[ca]
	if lines == nil {
		return nil, errUnknown
	}
	opts, err := readCertificate(a)
	if err != nil {
		return nil, err
	}
	var fits []*line
	for _, name := range owners(lines) {
		if user != "" && user != name {
			continue
		}
		l, lerr := firstLine(lines, name, func(l *line) error { return a.certifiedBy(l) })
		if lerr == nil {
			fits = append(fits, l)
		} else if err == nil || errors.Is(err, errPrincipal) {
			err = lerr
		}
	}
	switch {
	case len(fits) == 1:
		return a.certifiedKey(fits[0], ca, opts), nil
	case len(fits) > 1:
		return nil, errors.New("has a certificate that fits more than one user here")
	case err == nil:
		err = errElsewhere
	}
	return nil, err
}

// owners are the users that lines belong to, each once.
func owners(lines []*line) (users []string) {
	for _, l := range lines {
		if !slices.Contains(users, l.user) {
			users = append(users, l.user)
		}
	}
	return users
}
