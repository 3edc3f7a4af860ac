package gateway

import (
	"crypto/ed25519"
	"crypto/sha256"
	"io"
	"testing"

	"golang.org/x/crypto/ssh"
)

// token is a security key: it signs as OpenSSH's PROTOCOL.u2f has it, and says
// in flags whether somebody touched it.
type token struct {
	key    ed25519.PrivateKey
	public ssh.PublicKey
	flags  byte
}

func newToken(t *testing.T) *token {
	seed := sha256.Sum256([]byte("token"))
	k := &token{key: ed25519.NewKeyFromSeed(seed[:])}
	var err error
	k.public, err = ssh.ParsePublicKey(ssh.Marshal(struct {
		Type string
		Key  []byte
		App  string
	}{ssh.KeyAlgoSKED25519, k.key.Public().(ed25519.PublicKey), "ssh:"}))
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func (k *token) PublicKey() ssh.PublicKey { return k.public }

func (k *token) Sign(_ io.Reader, data []byte) (*ssh.Signature, error) {
	app, message := sha256.Sum256([]byte("ssh:")), sha256.Sum256(data)
	tail := []byte{k.flags, 0, 0, 0, 1}
	signed := append(append(app[:], tail...), message[:]...)
	return &ssh.Signature{Format: ssh.KeyAlgoSKED25519, Blob: ed25519.Sign(k.key, signed), Rest: tail}, nil
}

// TestSecurityKeysAreTouched: a security key that nobody touched is let in only
// where its line says that it need not be.
func TestSecurityKeysAreTouched(t *testing.T) {
	k := newToken(t)
	line := string(ssh.MarshalAuthorizedKey(k.public))
	for _, tt := range []struct {
		options string
		flags   byte
		ok      bool
	}{
		{"", 1, true}, {"", 0, false}, {"touch-required ", 0, false},
		{"no-touch-required ", 0, true}, {"no-touch-required,touch-required ", 0, false},
	} {
		dir := newState(t)
		authorize(t, dir, "tom", tt.options+line)
		g := start(t, dir)
		k.flags = tt.flags
		if _, err := g.loginWith("tom", k); (err == nil) != tt.ok {
			t.Errorf("%stouched %d: %v", tt.options, tt.flags, err)
		}
	}
}
