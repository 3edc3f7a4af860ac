package sshd

import (
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"
)

// maxAuthTries is high because agents offer many keys; OpenSSH stops at 6.
// Twenty are let through, and then ssh tries keyboard-interactive three times,
// which is where it hears why they were refused.
const maxAuthTries = 20 + 3

// errRefused ends a login whose keys were all refused.
var errRefused = errors.New("no key was accepted")

// algorithms are x/crypto's without those that rest on SHA-1. Its defaults
// still offer some of them, so every list is set.
var algorithms = func() ssh.Algorithms {
	a := ssh.SupportedAlgorithms()
	sha1 := func(name string) bool {
		return slices.Contains([]string{"hmac-sha1", "hmac-sha1-96", "diffie-hellman-group14-sha1", "ssh-rsa", "ssh-dss"}, name)
	}
	a.KeyExchanges = slices.DeleteFunc(a.KeyExchanges, sha1)
	a.MACs = slices.DeleteFunc(a.MACs, sha1)
	a.PublicKeyAuths = slices.DeleteFunc(a.PublicKeyAuths, sha1)
	return a
}()

// Ciphers are the ciphers a Server can offer.
func Ciphers() []string { return slices.Clone(algorithms.Ciphers) }

// login is what one connection has tried so far. x/crypto calls it from one
// goroutine.
type login struct {
	srv  *Server
	errs []error
	told bool
	ok   func() // called when the login has succeeded

	sock      *socket
	transport transport // set when authentication begins
	meta      ssh.ConnMetadata
	perms     *ssh.Permissions // of the key whose signature was verified last
}

// handshake runs key exchange and authentication within the login grace.
func (s *Server) handshake(sock *socket) (c *Conn, err error) {
	leave := s.startups.enter(sock)
	defer leave()
	grace := time.AfterFunc(s.LoginGrace, func() { sock.Close() })
	defer grace.Stop()
	l := &login{srv: s, sock: sock}
	defer func() {
		if c == nil { // a panic among the reasons
			sock.Close()
			takeAhead(l.transport.packets)
		}
		if err != nil {
			l.logFailed(err)
		}
	}()
	cfg := s.config(l)
	if err = s.chooseCiphers(sock, cfg); err != nil {
		return nil, err
	}
	l.ok = func() { // before the client hears of it, and can be told from the crowd
		leave()
		grace.Stop()
		if joinable(cfg.Ciphers) {
			sock.join.Store(&joiner{on: true})
		}
	}
	if err = authenticate(sock, cfg); err == nil {
		err = l.transport.write([]byte{msgUserAuthOK})
	}
	if err != nil {
		return nil, err
	}
	return newConn(s, l)
}

// chooseCiphers makes the offer for this client, unless the operator fixed it.
func (s *Server) chooseCiphers(sock *socket, cfg *ssh.ServerConfig) (err error) {
	if len(s.Ciphers) > 0 {
		cfg.Ciphers = s.Ciphers
		return nil
	}
	cfg.Ciphers, err = steer(sock, cfg.ServerVersion, cfg.Ciphers)
	return err
}

// config is one connection's: its callbacks close over that connection's
// login and over nothing shared.
func (s *Server) config(l *login) *ssh.ServerConfig {
	cfg := &ssh.ServerConfig{
		Config: ssh.Config{
			Rand:         rand.Reader,
			KeyExchanges: algorithms.KeyExchanges,
			Ciphers:      algorithms.Ciphers,
			MACs:         algorithms.MACs,
		},
		PublicKeyAuthAlgorithms:     algorithms.PublicKeyAuths,
		MaxAuthTries:                maxAuthTries,
		PublicKeyCallback:           l.offered,
		VerifiedPublicKeyCallback:   l.verified,
		KeyboardInteractiveCallback: l.refused,
		PreAuthConnCallback:         l.begun,
		AuthLogCallback:             l.log,
		ServerVersion:               "SSH-2.0-" + s.Version,
	}
	for _, k := range firstOfEachType(s.HostKeys) {
		cfg.AddHostKey(withoutSHA1(k))
	}
	return cfg
}

// firstOfEachType leaves out what the library would put in an earlier key's
// place: the key that clients know stays the one that is shown.
func firstOfEachType(keys []ssh.Signer) (first []ssh.Signer) {
	for _, k := range keys {
		if !slices.ContainsFunc(first, func(f ssh.Signer) bool { return f.PublicKey().Type() == k.PublicKey().Type() }) {
			first = append(first, k)
		}
	}
	return first
}

// withoutSHA1 keeps an RSA host key from signing as "ssh-rsa", which the
// library offers for every one of them.
func withoutSHA1(k ssh.Signer) ssh.Signer {
	a, ok := k.(ssh.AlgorithmSigner)
	if !ok || k.PublicKey().Type() != ssh.KeyAlgoRSA {
		return k
	}
	if m, err := ssh.NewSignerWithAlgorithms(a, []string{ssh.KeyAlgoRSASHA512, ssh.KeyAlgoRSASHA256}); err == nil {
		return m
	}
	return k
}

// offered answers whether a key would do. Nothing of it is kept but the
// refusal: offering somebody's public key proves nothing.
func (l *login) offered(meta ssh.ConnMetadata, key ssh.PublicKey) (*ssh.Permissions, error) {
	perms, err := l.srv.Authenticate(meta, key)
	if err == nil {
		return perms, nil
	}
	if l.errs = append(l.errs, err); len(l.errs) == maxAuthTries { // the last that is looked at
		err = l.tell(err, tooManyKeys)
	}
	return nil, err
}

// tooManyKeys is for whose agent has more of them than are looked at.
const tooManyKeys = "adit: no more keys than these are looked at. Say which one is right: ssh -o IdentitiesOnly=yes -i FILE\n"

// verified decides the identity: by the key whose signature was good, asked
// for afresh.
func (l *login) verified(meta ssh.ConnMetadata, key ssh.PublicKey, _ *ssh.Permissions, _ string) (perms *ssh.Permissions, err error) {
	perms, err = l.srv.Authenticate(meta, key)
	l.perms = perms
	return perms, err
}

// refused is the keyboard-interactive method: it asks nothing and never
// succeeds. Clients try it when their keys have run out, so it is where the
// reason is told, once.
func (l *login) refused(ssh.ConnMetadata, ssh.KeyboardInteractiveChallenge) (*ssh.Permissions, error) {
	return nil, l.tell(errRefused, "")
}

// tell is err, with the reasons for the user if they have not been told yet.
func (l *login) tell(err error, more string) error {
	if l.told || l.srv.Refused == nil {
		return err
	}
	l.told = true
	return &ssh.BannerError{Err: err, Message: l.srv.Refused(l.errs) + more}
}

// maxReasons bounds the keys of one login that are logged.
const maxReasons = 5

// logFailed tells the operator what the user is told, or in one bounded line why
// it did not come to that. Who said nothing, as a load balancer that looks whether
// the port is open, is not worth one.
func (l *login) logFailed(err error) {
	remote := l.sock.RemoteAddr().String()
	text := err.Error()
	text = fmt.Sprintf("%q", text[:min(len(text), 200)])
	switch {
	case len(l.errs) > 0:
		reasons := errors.Join(l.errs[:min(len(l.errs), maxReasons)]...).Error()
		l.srv.Strangers.Info("ssh: login refused", "remote", remote, "keys", len(l.errs), "why", strings.ReplaceAll(reasons, "\n", "; "))
	case l.sock.heard.Load() == 0:
		l.srv.Logger.Debug("ssh: login failed", "remote", remote, "err", text)
	default:
		l.srv.Strangers.Info("ssh: login failed", "remote", remote, "err", text)
	}
}

// begun is called when authentication begins.
func (l *login) begun(c ssh.ServerPreAuthConn) {
	t, err := transportOf(c)
	if err != nil {
		l.srv.Logger.Error("ssh: no login is possible", "err", err)
		l.sock.Close()
	}
	l.transport = t
	l.sock.begun.Store(true)
	l.sock.early.open()
}

// log is the last to be called before the client hears of its success, and
// after everything was checked: from here on the connection is ours. The one
// method that succeeds is publickey, whose answer came from verified.
func (l *login) log(meta ssh.ConnMetadata, _ string, err error) {
	if err == nil {
		l.ok()
		l.meta = meta
		panic(loggedIn{})
	}
}
