package sshd

import (
	"crypto/rand"
	"crypto/rsa"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"
)

// The key that signed decides, not one that was only shown.
func TestIdentityIsTheKeyThatSigned(t *testing.T) {
	ts := newServer(t, script{})
	c := greet(t, ts.connect())
	c.exchange()
	c.service()
	c.send(pubkeyRequest("ann", "ann", false))
	c.want(60) // SSH_MSG_USERAUTH_PK_OK
	c.sign("someone", "bob")
	c.want(msgUserAuthOK)
	conn := within(t, ts.conns).conn
	if name := conn.Permissions().Extensions["name"]; name != "bob" || conn.User() != "someone" {
		t.Errorf("identity %q, login name %q", name, conn.User())
	}
	c.nc.Close()
}

// A login name that changes between attempts is only ever the last one.
func TestLoginNameChanges(t *testing.T) {
	ts := newServer(t, script{})
	c := greet(t, ts.connect())
	c.exchange()
	c.service()
	for i := range 5 {
		c.sign(fmt.Sprint("user", i), "stranger")
		c.want(msgUserAuthFail)
	}
	c.sign("last", "ann")
	c.want(msgUserAuthOK)
	if conn := within(t, ts.conns).conn; conn.User() != "last" || conn.Permissions().Extensions["name"] != "ann" {
		t.Error(conn.User(), conn.Permissions())
	}
	c.nc.Close()
}

// A key that is taken away between offer and signature does not log in.
func TestTheSecondAnswerCounts(t *testing.T) {
	asked := 0
	ts := newServer(t, script{}, func(s *Server) {
		s.Authenticate = func(ssh.ConnMetadata, ssh.PublicKey) (*ssh.Permissions, error) {
			if asked++; asked > 1 {
				return nil, errors.New("removed meanwhile")
			}
			return &ssh.Permissions{}, nil
		}
	})
	if _, _, _, err := ssh.NewClientConn(ts.connect(), "test", clientConfig("ann")); err == nil {
		t.Error("logged in")
	}
}

func TestOnlyTwoMethods(t *testing.T) {
	c := greet(t, newServer(t, script{}).connect())
	c.exchange()
	c.service()
	for _, method := range []string{"none", "password", "hostbased", "gssapi-with-mic", "\x1b[2J"} {
		c.send(struct {
			User, Service, Method string `sshtype:"50"`
			Rest                  []byte `ssh:"rest"`
		}{"me", "ssh-connection", method, nil})
		var m struct {
			Methods string `sshtype:"51"`
			Partial bool
		}
		if err := ssh.Unmarshal(c.want(msgUserAuthFail), &m); err != nil || m.Methods != "publickey,keyboard-interactive" {
			t.Errorf("%s: %q %v", method, m.Methods, err)
		}
	}
}

// banners logs in with keys and gives what was shown.
func banners(t *testing.T, ts *testServer, keys ...string) (shown []string, err error) {
	t.Helper()
	cfg := clientConfig(keys...)
	cfg.Auth = append(cfg.Auth, ssh.KeyboardInteractive(func(_, _ string, questions []string, _ []bool) ([]string, error) {
		if len(questions) > 0 {
			t.Error("it asks", questions)
		}
		return nil, nil
	}))
	cfg.BannerCallback = func(text string) error {
		shown = append(shown, text)
		return nil
	}
	c, chans, reqs, err := ssh.NewClientConn(ts.connect(), "test", cfg)
	if err == nil {
		c.Close()
		drain(chans, reqs)
	}
	return shown, err
}

func TestRefusalIsToldOnce(t *testing.T) {
	keys := func(n int, more ...string) (names []string) {
		for i := range n {
			names = append(names, fmt.Sprint("stranger", i))
		}
		return append(names, more...)
	}
	tests := []struct {
		name string
		keys []string
		told string
	}{
		{"one key", keys(1), "refused 1 keys\n"},
		{"an agent with twenty keys", keys(20), "refused 20 keys\n"},
		{"the twentieth is good", keys(19, "ann"), ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			shown, err := banners(t, newServer(t, script{}), tt.keys...)
			if (err == nil) != (tt.told == "") {
				t.Error("login:", err)
			}
			if got := strings.Join(shown, "|"); got != tt.told {
				t.Errorf("shown %q, want %q", got, tt.told)
			}
		})
	}
}

func TestTriesAreBounded(t *testing.T) {
	c := greet(t, newServer(t, script{}).connect())
	c.exchange()
	c.service()
	for i := range maxAuthTries - 1 {
		c.sign("me", fmt.Sprint("stranger", i))
		c.want(msgUserAuthFail)
	}
	c.sign("me", "stranger")
	var told struct {
		Text     string `sshtype:"53"`
		Language string
	}
	if err := ssh.Unmarshal(c.want(msgUserAuthBanner), &told); err != nil || told.Text != "refused 23 keys\n"+tooManyKeys {
		t.Errorf("told %q, %v", told.Text, err)
	}
	if seen := c.closed(); string(seen) != string(byte(msgDisconnect)) {
		t.Error("after the last try:", seen)
	}
}

func TestWeakAlgorithmsAreNotOffered(t *testing.T) {
	c := greet(t, newServer(t, script{}).connect())
	theirs := lists(t, c.want(msgKexInit))
	for _, list := range theirs {
		for _, weak := range []string{"sha1", "ssh-rsa", "ssh-dss", "-cbc", "arcfour", "3des", "md5", "group1-", "group14-sha1"} {
			if s := strings.Join(list, " ") + " "; strings.Contains(strings.ReplaceAll(s, "hmac-sha1-", "sha1"), weak) {
				t.Errorf("%s in %q", weak, s)
			}
		}
	}
	if !strings.Contains(strings.Join(theirs[0], " "), "kex-strict-s-v00@openssh.com") {
		t.Error("no strict key exchange:", theirs[0])
	}
}

func TestWeakAlgorithmsAreRefused(t *testing.T) {
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	rsaSigner, _ := ssh.NewSignerFromKey(rsaKey)
	any := func(*ssh.ClientConfig) {}
	tests := []struct {
		name   string
		change func(*ssh.ClientConfig)
		ok     bool
	}{
		{"as it comes", any, true},
		{"kex", func(c *ssh.ClientConfig) { c.KeyExchanges = []string{"diffie-hellman-group14-sha1"} }, false},
		{"kex group1", func(c *ssh.ClientConfig) { c.KeyExchanges = []string{"diffie-hellman-group1-sha1"} }, false},
		{"mac", func(c *ssh.ClientConfig) { c.MACs, c.Ciphers = []string{"hmac-sha1"}, []string{"aes128-ctr"} }, false},
		{"mac 96", func(c *ssh.ClientConfig) { c.MACs, c.Ciphers = []string{"hmac-sha1-96"}, []string{"aes128-ctr"} }, false},
		{"cipher", func(c *ssh.ClientConfig) { c.Ciphers = []string{"3des-cbc"} }, false},
		{"host key", func(c *ssh.ClientConfig) { c.HostKeyAlgorithms = []string{"ssh-rsa"} }, false},
		{"user key with SHA-1", func(c *ssh.ClientConfig) { c.Auth = rsaAuth(t, rsaSigner, ssh.KeyAlgoRSA) }, false},
		{"user key with SHA-256", func(c *ssh.ClientConfig) { c.Auth = rsaAuth(t, rsaSigner, ssh.KeyAlgoRSASHA256) }, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			ts := newServer(t, script{}, func(s *Server) { s.HostKeys = append(s.HostKeys, rsaSigner) })
			ts.good[string(rsaSigner.PublicKey().Marshal())] = "rsa"
			cfg := clientConfig("ann")
			tt.change(cfg)
			c, chans, reqs, err := ssh.NewClientConn(ts.connect(), "test", cfg)
			if (err == nil) != tt.ok {
				t.Error("login:", err)
			}
			if err == nil {
				c.Close()
				drain(chans, reqs)
			}
		})
	}
}

func rsaAuth(t *testing.T, s ssh.Signer, algorithm string) []ssh.AuthMethod {
	t.Helper()
	limited, err := ssh.NewSignerWithAlgorithms(s.(ssh.AlgorithmSigner), []string{algorithm})
	if err != nil {
		t.Fatal(err)
	}
	return []ssh.AuthMethod{ssh.PublicKeys(limited)}
}

// A second host key of a type waits behind the first, which clients know.
func TestFirstHostKeyOfAType(t *testing.T) {
	ts := newServer(t, script{}, func(s *Server) { s.HostKeys = append(s.HostKeys, signer("next")) })
	cfg := clientConfig("ann")
	cfg.HostKeyCallback = ssh.FixedHostKey(signer("host").PublicKey())
	c, chans, reqs, err := ssh.NewClientConn(ts.connect(), "test", cfg)
	if err != nil {
		t.Fatal(err)
	}
	c.Close()
	drain(chans, reqs)
}

// OpenSSH learns further host keys from the announcement, and wants each of
// them proven (its PROTOCOL, section 2.5).
func TestHostKeysAreAnnouncedAndProven(t *testing.T) {
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	second, _ := ssh.NewSignerFromKey(rsaKey)
	ts := newServer(t, script{}, func(s *Server) { s.HostKeys = append(s.HostKeys, second) })
	c := ts.dialMute("ann")
	var announced []ssh.PublicKey
	r := within(t, c.reqs)
	if r.Type != "hostkeys-00@openssh.com" || r.WantReply {
		t.Fatalf("%s %v", r.Type, r.WantReply)
	}
	for _, blob := range blobs(t, r.Payload) {
		k, err := ssh.ParsePublicKey(blob)
		if err != nil {
			t.Fatal(err)
		}
		announced = append(announced, k)
	}
	if len(announced) != 2 {
		t.Fatalf("%d keys", len(announced))
	}
	go ssh.DiscardRequests(c.reqs)
	ok, proofs := c.ask("hostkeys-prove-00@openssh.com", r.Payload)
	if !ok {
		t.Fatal("no proof")
	}
	for i, p := range blobs(t, proofs) {
		var sig ssh.Signature
		if err := ssh.Unmarshal(p, &sig); err != nil {
			t.Fatal(err)
		}
		data := ssh.Marshal(struct{ Name, Session, Blob string }{"hostkeys-prove-00@openssh.com", string(c.SessionID()), string(announced[i].Marshal())})
		if err := announced[i].Verify(data, &sig); err != nil || sig.Format == ssh.KeyAlgoRSA {
			t.Errorf("%s: %v", sig.Format, err)
		}
	}
	stranger := ssh.Marshal(struct{ Blob []byte }{signer("stranger").PublicKey().Marshal()})
	for _, p := range [][]byte{nil, stranger, append(r.Payload[:len(r.Payload):len(r.Payload)], stranger...), r.Payload[:10]} {
		if ok, _ := c.ask("hostkeys-prove-00@openssh.com", p); ok {
			t.Errorf("proof given for %d bytes", len(p))
		}
	}
	given := 0
	for range maxProofs {
		if ok, _ := c.ask("hostkeys-prove-00@openssh.com", r.Payload); ok {
			given++
		}
	}
	if given == 0 || given > maxProofs/len(announced) {
		t.Errorf("%d times %d proofs more", given, len(announced))
	}
}

// blobs are the strings that p is made of.
func blobs(t *testing.T, p []byte) (all [][]byte) {
	t.Helper()
	for len(p) > 0 {
		n := binary.BigEndian.Uint32(p)
		if uint32(len(p)-4) < n {
			t.Fatal("cut short")
		}
		all, p = append(all, p[4:4+n]), p[4+n:]
	}
	return all
}

func TestVersionLine(t *testing.T) {
	c := greet(t, newServer(t, script{}).connect())
	if c.version != "SSH-2.0-test" {
		t.Errorf("%q", c.version)
	}
	ts := newServer(t, script{})
	conn := ts.dial("ann").h.conn
	if !strings.HasPrefix(conn.ClientVersion(), "SSH-2.0-Go") || conn.Opened().After(time.Now()) {
		t.Error(conn.ClientVersion(), conn.Opened())
	}
}
