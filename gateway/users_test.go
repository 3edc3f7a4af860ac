package gateway

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"
)

// TestKeyRemovedWhileItLogsIn: a key that is removed between its signature and
// the moment at which the connection is known is put out all the same.
func TestKeyRemovedWhileItLogsIn(t *testing.T) {
	dir := newState(t)
	g, err := New(config(dir))
	if err != nil {
		t.Fatal(err)
	}
	asked := new(atomic.Int32) // from ann's login on
	authenticate := g.ssh.Authenticate
	g.ssh.Authenticate = func(meta ssh.ConnMetadata, pub ssh.PublicKey) (*ssh.Permissions, error) {
		p, err := authenticate(meta, pub)
		if asked.Add(1) == 4 { // bob's key has signed
			ann := g.allClients()[0]
			before := ann.key()
			authorize(t, dir, "bob", "")
			g.Reload()
			for ann.key() == before { // until the change was carried out on who is there
				time.Sleep(time.Millisecond)
			}
		}
		return p, err
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- g.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-ended })
	r := &running{Gateway: g, t: t, dir: dir}
	r.login("ann")
	if u, err := r.tryLogin("bob"); err == nil { // else the end came before the client's library was done
		u.Wait()
	}
	if asked.Load() != 4 {
		t.Error("asked", asked.Load())
	}
}

// TestChangeWhileADomainIsProven: a change of the keys' files leaves alone what
// waits for DNS, and holds for what comes of that.
func TestChangeWhileADomainIsProven(t *testing.T) {
	const name, other = "app.customer.com", "other.customer.com"
	dir := newState(t)
	permit := func(name string) {
		authorize(t, dir, "eve", fmt.Sprintf(`permitlisten="%s:80" %s`, name, ssh.MarshalAuthorizedKey(signer("eve").PublicKey())))
	}
	permit(name)
	zone, server := newRecords(t)
	zone.set("_adit."+name+".", ssh.FingerprintSHA256(signer("eve").PublicKey()), false)
	g := start(t, dir, func(c *Config) { c.DNSResolver = server })
	zone.onAsk(g.allEnforce)
	eve := g.login("eve")
	if _, ok := eve.forward(name, 80); !ok {
		t.Fatal(eve.why())
	}
	eventually(t, "it is live", func() bool { return g.standsLive(name) })
	eve.Close()
	zone.onAsk(func() { permit(other); g.keys.Reload(); g.allEnforce() })
	if code, text := g.refusedFor("eve", name, 80); code != "not_permitted" {
		t.Errorf("it may no longer: %q: %s", code, text)
	}
}

// allEnforce is what a change of the keys' files leads to.
func (g *running) allEnforce() {
	for _, cl := range g.allClients() {
		cl.enforce()
	}
}

// TestMaxTunnelsOfAnAuthority: certificates of one authority are counted for
// each user, as their names are theirs.
func TestMaxTunnelsOfAnAuthority(t *testing.T) {
	dir := newState(t)
	ca := ssh.MarshalAuthorizedKey(signer("ca").PublicKey())
	for _, user := range []string{"cam", "cat"} {
		authorize(t, dir, user, fmt.Sprintf(`cert-authority,max-tunnels@adit="1" %s`, ca))
	}
	g := start(t, dir)
	for _, user := range []string{"cam", "cat"} {
		u := g.loginAs(certificate(t, user))
		if _, ok := u.forward(user+"-one", 80); !ok {
			t.Errorf("%s: the first is refused", user)
		}
		if _, ok := u.forward(user+"-two", 80); ok {
			t.Errorf("%s: the second is granted", user)
		}
	}
}

// certificate is a key of name's, certified by "ca" for name.
func certificate(t *testing.T, name string) ssh.Signer {
	c := &ssh.Certificate{Key: signer(name).PublicKey(), CertType: ssh.UserCert, ValidPrincipals: []string{name},
		ValidBefore: ssh.CertTimeInfinity, Permissions: ssh.Permissions{Extensions: map[string]string{"permit-port-forwarding": ""}}}
	if err := c.SignCert(zeros{}, signer("ca")); err != nil {
		t.Fatal(err)
	}
	s, err := ssh.NewCertSigner(c, signer(name))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }
