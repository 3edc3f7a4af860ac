//go:build linux

package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"math"
	"math/big"
	"net"
	"os"
	"regexp"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

// secureHost is the name that visitors over TLS ask for.
const secureHost = "app.localhost"

// openSecure is a gateway that opens TLS, with the key that all of them have.
func openSecure(b *bench, name string) (*peer, error) {
	if err := b.makeCert(); err != nil {
		return nil, err
	}
	addr := freeAddr()
	if name == "nginx+sshd" {
		return b.secureNginx(addr)
	}
	g, err := b.startAdit([]string{freeAddr()}, "--https", addr, "--http3", "off", "--tls", "files", "--cert-dir", b.path("certs"))
	if err != nil {
		return nil, err
	}
	p, err := b.dialOwned(g, name, client{name: "app"})
	if err != nil {
		return nil, err
	}
	p.secure = site{addr, secureHost}
	return p, nil
}

// secureNginx is nginx with TLS in front of sshd's port.
func (b *bench) secureNginx(addr string) (*peer, error) {
	s, err := b.stand("sshd")
	if err != nil {
		return nil, err
	}
	tls := fmt.Sprintf("ssl_protocols TLSv1.2 TLSv1.3; ssl_certificate %s; ssl_certificate_key %s;\n", b.path("certs/bench.crt"), b.path("certs/bench.key"))
	front, err := b.startNginx("front-"+port(addr), tls+proxyConf(addr+" ssl http2", secureHost, s.web.addr), addr)
	if err != nil {
		return nil, err
	}
	return &peer{name: "nginx+sshd", secure: site{addr, secureHost}, gateway: append([]*process{front}, s.gateway...),
		client: s.client, origin: s.origin, closers: []func(){front.stop}}, nil
}

// makeCert makes a key and a certificate for secureHost and the address that wrk
// asks for, once.
func (b *bench) makeCert() error {
	dir := b.path("certs")
	if err := os.Mkdir(dir, 0o700); os.IsExist(err) {
		return nil
	} else if err != nil {
		return err
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	t := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: []string{secureHost}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: b.began.Add(-time.Hour), NotAfter: b.began.Add(24 * time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, t, t, key.Public(), key)
	if err != nil {
		return err
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	if err := writePEM(dir+"/bench.key", "PRIVATE KEY", private); err != nil {
		return err
	}
	return writePEM(dir+"/bench.crt", "CERTIFICATE", der)
}

func writePEM(file, kind string, der []byte) error {
	return os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600)
}

// secureKeepAlive is keepAlive by https. wrk speaks HTTP/1.1 there.
func secureKeepAlive(conns int) func(*bench, *peer) (figures, error) {
	return func(b *bench, p *peer) (figures, error) { return b.wrk(p, "https", p.secure, conns) }
}

// http2 asks for a page of 1 KiB in so many streams at once of one connection,
// with h2load.
func http2(streams int) func(*bench, *peer) (figures, error) {
	return func(b *bench, p *peer) (figures, error) {
		stop := b.meter(p)
		out, err := b.output("h2load", "-c1", "-m"+strconv.Itoa(streams), fmt.Sprintf("-D%d", int(math.Ceil(b.dur.Seconds()))),
			"--connect-to="+p.secure.addr, "https://"+p.secure.host+":"+port(p.secure.addr)+"/1k")
		cpu := stop()
		if err != nil {
			return nil, err
		}
		f, n, err := readH2load(out)
		if err == nil {
			cpu.each(f, p, n)
		}
		return f, err
	}
}

var (
	h2loadRate  = regexp.MustCompile(`finished in .*, ([\d.]+) req/s`)
	h2loadCount = regexp.MustCompile(`status codes: (\d+) 2xx, 0 3xx, 0 4xx, 0 5xx`)
	h2loadBad   = regexp.MustCompile(`requests: .* [1-9]\d* (failed|errored|timeout).*`)
	h2loadProto = regexp.MustCompile(`Application protocol: (\S+)`)
)

// readH2load reads what h2load prints, and gives the requests too.
func readH2load(out string) (figures, float64, error) {
	n := value(h2loadCount, out)
	if bad := h2loadBad.FindString(out); bad != "" || n == 0 {
		return nil, 0, fmt.Errorf("h2load: %g answered with 2xx; %s", n, bad)
	}
	if proto := first(h2loadProto, out); proto != "h2" {
		return nil, 0, fmt.Errorf("h2load: the protocol is %q", proto)
	}
	return figures{perSecond: value(h2loadRate, out)}, n, nil
}

// handshakes opens connections, each with a whole handshake, and closes them, over
// and over, two at a time. All gateways agree on the same key exchange.
func handshakes(b *bench, p *peer) (figures, error) {
	conf := &tls.Config{ServerName: p.secure.host, InsecureSkipVerify: true, CurvePreferences: []tls.CurveID{tls.X25519}}
	var count atomic.Int64
	var failed atomic.Pointer[error]
	var wait sync.WaitGroup
	stop, end := b.meter(p), time.Now().Add(b.dur)
	for range 2 {
		wait.Go(func() {
			for time.Now().Before(end) && count.Load() < manyHandshakes {
				if err := handshake(p.secure.addr, conf); err != nil {
					failed.Store(&err)
					return
				}
				count.Add(1)
			}
		})
	}
	began := time.Now()
	wait.Wait()
	n, took, cpu := float64(count.Load()), time.Since(began).Seconds(), stop()
	if err := failed.Load(); err != nil {
		return nil, *err
	}
	return figures{perCPU: n / cpu.gateway, perSecond: n / took}, nil
}

// manyHandshakes bounds how many ports of loopback a run uses up.
const manyHandshakes = 8000

func handshake(addr string, conf *tls.Config) error {
	c, err := tls.DialWithDialer(&net.Dialer{Timeout: 5 * time.Second}, "tcp", addr, conf)
	if err != nil {
		return fmt.Errorf("handshake: %w", err)
	}
	return c.Close()
}
