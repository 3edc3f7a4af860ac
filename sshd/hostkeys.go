package sshd

import (
	"bytes"
	"crypto/rand"

	"golang.org/x/crypto/ssh"
)

// announceHostKeys tells the client every host key, so that one which knows
// hostkeys-00@openssh.com learns the others (OpenSSH's PROTOCOL, section 2.5).
func (c *Conn) announceHostKeys() {
	var payload []byte
	for _, k := range c.srv.HostKeys {
		payload = append(payload, ssh.Marshal(struct{ Blob string }{string(k.PublicKey().Marshal())})...)
	}
	c.mux.tell("hostkeys-00@openssh.com", payload)
}

// maxProofs is how many signatures one connection gets, as they are what costs
// most of all that can be asked for. A client asks once for each key.
const maxProofs = 16

// proveHostKeys signs for each key the client asks about, or fails.
func (c *Conn) proveHostKeys(r *request) {
	rest, reply := r.Payload, []byte(nil)
	for n := 0; len(rest) > 0 && n < len(c.srv.HostKeys); n++ {
		var m struct {
			Blob string
			Rest []byte `ssh:"rest"`
		}
		if ssh.Unmarshal(rest, &m) != nil {
			break
		}
		if c.proofs++; c.proofs > maxProofs {
			break
		}
		sig := c.prove([]byte(m.Blob))
		if sig == nil {
			break
		}
		reply, rest = append(reply, sig...), m.Rest
	}
	r.Reply(len(rest) == 0 && len(reply) > 0, reply)
}

// prove signs the session's identifier with the host key of that blob.
func (c *Conn) prove(blob []byte) []byte {
	for _, k := range c.srv.HostKeys {
		if !bytes.Equal(k.PublicKey().Marshal(), blob) {
			continue
		}
		sig, err := signHostKey(k, ssh.Marshal(struct{ Name, Session, Blob string }{
			"hostkeys-prove-00@openssh.com", string(c.meta.SessionID()), string(blob)}))
		if err != nil {
			return nil
		}
		return ssh.Marshal(struct{ Sig string }{string(ssh.Marshal(sig))})
	}
	return nil
}

// signHostKey signs with SHA-512 where the key is RSA: the key type's own
// name would mean SHA-1.
func signHostKey(k ssh.Signer, data []byte) (*ssh.Signature, error) {
	if a, ok := k.(ssh.AlgorithmSigner); ok && k.PublicKey().Type() == ssh.KeyAlgoRSA {
		return a.SignWithAlgorithm(rand.Reader, data, ssh.KeyAlgoRSASHA512)
	}
	return k.Sign(rand.Reader, data)
}
