//go:build unix

package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"math/big"
	"net/http"
	"os"
	"time"

	"github.com/quic-go/quic-go/http3"
	"github.com/rogpeppe/go-internal/testscript"
)

// gets is get by https.
func gets(ts *testscript.TestScript, neg bool, args []string) {
	succeed(ts, neg, append([]string{"gets"}, args...))
}

// getsArgs is curl for a host that the gateway's HTTPS port shall answer for.
func getsArgs(ts *testscript.TestScript, args []string) []string {
	if len(args) < 2 {
		ts.Fatalf("usage: gets HOST PATH [curl args]")
	}
	curl := []string{"curl", "-q", "-sS", "-i", "--max-time", "60", "--noproxy", "*", "--cacert", ts.Getenv("CACERT"),
		"--connect-to", "::127.0.0.1:" + ts.Getenv("HTTPS_PORT")}
	return append(append(curl, args[2:]...), "https://"+args[0]+args[1])
}

// h3Main is the program h3: PORT CACERT HOST PATH.
func h3Main() {
	if len(os.Args) != 5 {
		fail("usage: h3 HTTPS-PORT CACERT HOST PATH")
	}
	root, err := os.ReadFile(os.Args[2])
	fail(err)
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(root)
	transport := &http3.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, ServerName: os.Args[3]}}
	defer transport.Close()
	request, err := http.NewRequest(http.MethodGet, "https://127.0.0.1:"+os.Args[1]+os.Args[4], nil)
	fail(err)
	request.Host = os.Args[3]
	response, err := (&http.Client{Transport: transport, Timeout: patienceLimit}).Do(request)
	fail(err)
	defer response.Body.Close()
	fmt.Println(response.Proto, response.Status)
	_, err = io.Copy(os.Stdout, response.Body)
	fail(err)
}

// originCmd opens a local web service that speaks TLS, with a certificate of
// its own making.
func originCmd(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) != 3 || neg {
		ts.Fatalf("usage: origin NAME HOST TEXT")
	}
	cert := selfSigned(ts, args[1])
	ts.Check(os.WriteFile(ts.MkAbs(args[0]+".crt"), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Certificate[0]}), 0o600))
	s := open(ts, args[0])
	s.listener = tls.NewListener(s.listener, &tls.Config{Certificates: []tls.Certificate{cert}, NextProtos: []string{"http/1.1"}})
	s.server = &http.Server{Handler: webHandler(args[2]), ErrorLog: log.New(io.Discard, "", 0)}
	s.running.Add(1)
	go s.serveHTTP()
}

func selfSigned(ts *testscript.TestScript, host string) tls.Certificate {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	ts.Check(err)
	t := &x509.Certificate{SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: host}, DNSNames: []string{host}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign}
	der, err := x509.CreateCertificate(rand.Reader, t, t, &key.PublicKey, key)
	ts.Check(err)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}
