package gateway

import (
	"context"
	"errors"
	"net"
	"strings"
	"time"

	"adit/keys"
	"adit/sshd"

	"golang.org/x/crypto/ssh"
)

// keyData is where a login's *keys.Key rides in its Permissions.
type keyData struct{}

// authenticate answers for one key, afresh each time.
func (g *Gateway) authenticate(meta ssh.ConnMetadata, pub ssh.PublicKey) (*ssh.Permissions, error) {
	k, err := g.keys.Authenticate(pub, meta.RemoteAddr())
	if err != nil {
		return nil, err
	}
	p := &ssh.Permissions{ExtraData: map[any]any{keyData{}: k}}
	if k.Options.NoTouchRequired {
		p.Extensions = map[string]string{"no-touch-required": ""}
	}
	return p, nil
}

// refusedLogin is the sentence for a login none of whose keys was taken.
func refusedLogin(errs []error) string {
	var b strings.Builder
	unknown := false
	told := map[string]bool{}
	for _, err := range errs {
		var r *keys.Refusal
		if !errors.As(err, &r) || told[r.Error()] {
			continue
		}
		told[r.Error()] = true
		b.WriteString("adit: " + r.Error())
		if r.Unknown && !unknown {
			b.WriteString(". The operator adds it with: adit keys add NAME")
			unknown = true
		}
		b.WriteString("\n")
	}
	if b.Len() == 0 {
		return "adit: your ssh offered no key that can be used here. Make one with: ssh-keygen -t ed25519\n"
	}
	return b.String()
}

// handshakeDropped is told that there are too many connections in their handshake.
func (g *Gateway) handshakeDropped(newcomer net.Addr) {
	g.metrics.dropped.Inc()
	g.strangers.Warn("ssh: too many handshakes at once, one was cut", "remote", newcomer.String())
}

// connected makes the client of a connection that has logged in.
func (g *Gateway) connected(c *sshd.Conn) (sshd.Handler, error) {
	k, ok := c.Permissions().ExtraData[keyData{}].(*keys.Key)
	if !ok {
		return nil, errors.New("login without a key")
	}
	cl := &client{g: g, conn: c, tunnels: map[*Tunnel]struct{}{}}
	cl.current.Store(k)
	c.NoPTY = !k.Options.PTY
	if !g.admit(cl) {
		return nil, errStopping
	}
	g.log.Info("ssh: connected", "user", k.User, "key", k.Fingerprint, "login", printable(c.User(), 64),
		"remote", c.RemoteAddr().String(), "client", printable(c.ClientVersion(), 80), "cipher", c.Cipher())
	cl.enforce() // the files may have changed since the key signed
	return cl, nil
}

// admit counts a connection in, unless the gateway is stopping. From then on
// watchKeys finds it.
func (g *Gateway) admit(cl *client) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closing {
		return false
	}
	g.clients[cl] = struct{}{}
	g.metrics.conns.Inc()
	return true
}

// watchKeys holds open connections to what the files and the clock say by
// now: at every change, and every second for what expires.
func (g *Gateway) watchKeys(ctx context.Context) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	changed := g.keys.Changed()
	for {
		select {
		case <-ctx.Done():
			return
		case <-changed:
			changed = g.keys.Changed()
			for _, cl := range g.allClients() {
				cl.enforce()
			}
		case now := <-tick.C:
			for _, cl := range g.allClients() {
				if e := cl.key().Expires; !e.IsZero() && !now.Before(e) {
					cl.enforce()
				}
			}
		}
	}
}
