package sshd

import (
	"bufio"
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/ecdh"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"
)

// Message numbers that raw clients send (RFC 4250, section 4.1).
const (
	msgDisconnect     = 1
	msgIgnore         = 2
	msgServiceRequest = 5
	msgServiceAccept  = 6
	msgUserAuthReq    = 50
	msgUserAuthFail   = 51
	msgUserAuthBanner = 53
)

// raw is a client that can send anything at any time: a library's would not.
type raw struct {
	t       testing.TB
	nc      net.Conn
	r       *bufio.Reader
	version string // the server's
	out, in *sealed
	session []byte
}

// sealed is one direction of aes128-gcm@openssh.com (RFC 5647).
type sealed struct {
	aead  cipher.AEAD
	nonce []byte
}

func (s *sealed) next() {
	n := s.nonce[4:]
	binary.BigEndian.PutUint64(n, binary.BigEndian.Uint64(n)+1)
}

// greet exchanges version lines.
func greet(t testing.TB, nc net.Conn) *raw {
	t.Helper()
	c := &raw{t: t, nc: nc, r: bufio.NewReader(nc)}
	io.WriteString(nc, "SSH-2.0-raw\r\n")
	line, err := c.r.ReadString('\n')
	if err != nil {
		t.Fatal("version:", err)
	}
	c.version = strings.TrimRight(line, "\r\n")
	return c
}

// write sends one packet (RFC 4253, section 6); errors show at the next read.
func (c *raw) write(payload []byte) {
	block, head := 8, 5
	if c.out != nil {
		block, head = 16, 1
	}
	pad := block - (head+len(payload))%block
	if pad < 4 {
		pad += block
	}
	p := binary.BigEndian.AppendUint32(nil, uint32(1+len(payload)+pad))
	p = append(append(append(p, byte(pad)), payload...), make([]byte, pad)...)
	if c.out != nil {
		p = append(p[:4], c.out.aead.Seal(nil, c.out.nonce, p[4:], p[:4])...)
		c.out.next()
	}
	c.nc.Write(p)
}

// send marshals a message; its first field carries an sshtype tag.
func (c *raw) send(m any) { c.write(ssh.Marshal(m)) }

func (c *raw) read() ([]byte, error) {
	var head [4]byte
	if _, err := io.ReadFull(c.r, head[:]); err != nil {
		return nil, err
	}
	n := binary.BigEndian.Uint32(head[:])
	if n > 1<<20 {
		return nil, fmt.Errorf("packet of %d bytes", n)
	}
	tag := 0
	if c.in != nil {
		tag = 16
	}
	p := make([]byte, int(n)+tag)
	if _, err := io.ReadFull(c.r, p); err != nil {
		return nil, err
	}
	if c.in != nil {
		var err error
		if p, err = c.in.aead.Open(nil, c.in.nonce, p, head[:]); err != nil {
			return nil, err
		}
		c.in.next()
	}
	if int(p[0])+1 > len(p) {
		return nil, errors.New("bad padding")
	}
	return p[1 : len(p)-int(p[0])], nil
}

// want reads up to the next message of that number.
func (c *raw) want(number byte) []byte {
	c.t.Helper()
	for {
		p, err := c.read()
		if err != nil {
			c.t.Fatalf("waiting for message %d: %v", number, err)
		}
		if p[0] == number {
			return p
		}
	}
}

// closed reads to the end of the connection, and gives the numbers of the
// messages that came before it.
func (c *raw) closed() (seen []byte) {
	for {
		p, err := c.read()
		if err != nil {
			return seen
		}
		seen = append(seen, p[0])
	}
}

// kexInit is a KEXINIT with one algorithm of each kind, or others by place.
func kexInit(change map[int]string) []byte {
	lists := []string{"curve25519-sha256", "ssh-ed25519", "aes128-gcm@openssh.com", "aes128-gcm@openssh.com",
		"hmac-sha2-256", "hmac-sha2-256", "none", "none", "", ""}
	p := append([]byte{msgKexInit}, make([]byte, 16)...)
	for i, l := range lists {
		if other, ok := change[i]; ok {
			l = other
		}
		p = append(p, ssh.Marshal(struct{ S string }{l})...)
	}
	return append(p, 0, 0, 0, 0, 0)
}

// lists are the name-lists of a KEXINIT.
func lists(t testing.TB, p []byte) (all [10][]string) {
	t.Helper()
	for i, rest := 0, p[17:]; i < len(all); i++ {
		var m struct {
			S    string
			Rest []byte `ssh:"rest"`
		}
		if err := ssh.Unmarshal(rest, &m); err != nil {
			t.Fatal(err)
		}
		all[i], rest = strings.Split(m.S, ","), m.Rest
	}
	return all
}

// exchange runs the first key exchange (RFC 8731).
func (c *raw) exchange() {
	c.t.Helper()
	mine := kexInit(nil)
	c.write(mine)
	theirs := c.want(msgKexInit)
	key, _ := ecdh.X25519().GenerateKey(rand.Reader)
	c.send(struct {
		Q []byte `sshtype:"30"`
	}{key.PublicKey().Bytes()})
	var reply struct {
		HostKey, Q, Sig []byte `sshtype:"31"`
	}
	if err := ssh.Unmarshal(c.want(31), &reply); err != nil {
		c.t.Fatal(err)
	}
	peer, err := ecdh.X25519().NewPublicKey(reply.Q)
	if err != nil {
		c.t.Fatal(err)
	}
	secret, _ := key.ECDH(peer)
	k := ssh.Marshal(struct{ K *big.Int }{new(big.Int).SetBytes(secret)})
	h := sha256.New()
	for _, s := range [][]byte{[]byte("SSH-2.0-raw"), []byte(c.version), mine, theirs, reply.HostKey, key.PublicKey().Bytes(), reply.Q} {
		h.Write(ssh.Marshal(struct{ S []byte }{s}))
	}
	h.Write(k)
	c.session = h.Sum(nil)
	c.write([]byte{msgNewKeys})
	c.want(msgNewKeys)
	c.out, c.in = c.seal(k, "C", "A"), c.seal(k, "D", "B")
}

// seal derives one direction's keys (RFC 4253, section 7.2).
func (c *raw) seal(k []byte, key, iv string) *sealed {
	derive := func(letter string) []byte {
		sum := sha256.Sum256(bytes.Join([][]byte{k, c.session, []byte(letter), c.session}, nil))
		return sum[:]
	}
	block, _ := aes.NewCipher(derive(key)[:16])
	aead, _ := cipher.NewGCM(block)
	return &sealed{aead, derive(iv)[:12]}
}

// service asks for ssh-userauth.
func (c *raw) service() {
	c.t.Helper()
	c.send(struct {
		S string `sshtype:"5"`
	}{"ssh-userauth"})
	c.want(msgServiceAccept)
}

// authRequest is a publickey request (RFC 4252, section 7); without a
// signature it only asks.
type authRequest struct {
	User, Service, Method string `sshtype:"50"`
	Signed                bool
	Algorithm             string
	Key                   []byte
}

func pubkeyRequest(user, name string, signed bool) authRequest {
	k := signer(name).PublicKey()
	return authRequest{user, "ssh-connection", "publickey", signed, k.Type(), k.Marshal()}
}

// sign sends a signed publickey request.
func (c *raw) sign(user, name string) {
	req := ssh.Marshal(pubkeyRequest(user, name, true))
	data := append(ssh.Marshal(struct{ S []byte }{c.session}), req...)
	sig, _ := signer(name).Sign(rand.Reader, data)
	c.write(append(req, ssh.Marshal(struct{ S []byte }{ssh.Marshal(sig)})...))
}

// dialRaw logs in as name with a raw client.
func (ts *testServer) dialRaw(name string) (*raw, *script) {
	ts.t.Helper()
	c := greet(ts.t, ts.connect())
	c.exchange()
	c.service()
	c.sign("me", name)
	c.want(msgUserAuthOK)
	return c, <-ts.conns
}

// openSession opens a session channel numbered id with that window, and gives
// the server's number for it.
func (c *raw) openSession(id, window uint32) uint32 {
	c.t.Helper()
	c.send(struct {
		Kind           string `sshtype:"90"`
		ID, Window, Mx uint32
	}{"session", id, window, 32 << 10})
	return binary.BigEndian.Uint32(c.want(msgChannelConfirm)[5:])
}

// channelRequest sends a channel request.
func (c *raw) channelRequest(peer uint32, kind string, reply bool, payload []byte) {
	c.send(struct {
		Peer  uint32 `sshtype:"98"`
		Kind  string
		Reply bool
		Rest  []byte `ssh:"rest"`
	}{peer, kind, reply, payload})
}

func (c *raw) globalRequest(kind string, reply bool, payload []byte) {
	c.send(struct {
		Kind  string `sshtype:"80"`
		Reply bool
		Rest  []byte `ssh:"rest"`
	}{kind, reply, payload})
}
