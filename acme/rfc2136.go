package acme

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"time"

	"github.com/caddyserver/certmagic"
	"github.com/libdns/libdns"
	"github.com/miekg/dns"
)

// fudge is how far the two clocks may differ, in seconds (RFC 8945 section 10
// recommends it).
const fudge = 300

// rfc2136 makes records by dynamic updates, signed with TSIG where there is a
// key. The zones are libdns's; records are TXT.
type rfc2136 struct {
	server    string
	key, alg  string // fully qualified; empty: unsigned
	secretB64 string
}

var _ certmagic.DNSProvider = (*rfc2136)(nil)

// algorithms are TSIG's; hmac-md5 is not to be used any more (RFC 8945 section
// 6).
var algorithms = []string{dns.HmacSHA1, dns.HmacSHA224, dns.HmacSHA256, dns.HmacSHA384, dns.HmacSHA512}

func newRFC2136(cfg DNSConfig) (*rfc2136, error) {
	if cfg.Server == "" {
		return nil, errors.New("dns: the server that takes updates is missing")
	}
	p := &rfc2136{server: cfg.Server}
	if _, _, err := net.SplitHostPort(p.server); err != nil {
		p.server = net.JoinHostPort(strings.Trim(p.server, "[]"), "53")
	}
	if cfg.Key == "" {
		return p, nil
	}
	return p, p.parseKey(cfg.Key)
}

// parseKey reads NAME:ALG:SECRET. Its errors repeat no part: two may have been
// swapped.
func (p *rfc2136) parseKey(s string) error {
	parts := strings.Split(s, ":")
	if len(parts) != 3 || parts[0] == "" {
		return errors.New("dns key: NAME:ALG:SECRET expected")
	}
	if _, ok := dns.IsDomainName(parts[0]); !ok {
		return errors.New("dns key: its name is no domain name")
	}
	p.key, p.alg, p.secretB64 = dns.CanonicalName(parts[0]), dns.CanonicalName(parts[1]), parts[2]
	if !slices.Contains(algorithms, p.alg) {
		return errors.New("dns key: ALG must be hmac-sha1, -sha224, -sha256, -sha384 or -sha512")
	}
	if b, err := base64.StdEncoding.DecodeString(p.secretB64); err != nil || len(b) == 0 {
		return errors.New("dns key: its secret is not base64")
	}
	return nil
}

// AppendRecords adds recs to zone beside what is there.
func (p *rfc2136) AppendRecords(ctx context.Context, zone string, recs []libdns.Record) ([]libdns.Record, error) {
	m := new(dns.Msg).SetUpdate(dns.Fqdn(zone))
	m.Insert(txts(zone, recs))
	return recs, p.update(ctx, m)
}

// DeleteRecords removes exactly recs from zone; that one is gone already is no
// error (RFC 2136 section 3.4.2.4).
func (p *rfc2136) DeleteRecords(ctx context.Context, zone string, recs []libdns.Record) ([]libdns.Record, error) {
	m := new(dns.Msg).SetUpdate(dns.Fqdn(zone))
	m.Remove(txts(zone, recs))
	return recs, p.update(ctx, m)
}

// txts are recs as TXT records of zone.
func txts(zone string, recs []libdns.Record) (out []dns.RR) {
	for _, rec := range recs {
		rr := rec.RR()
		out = append(out, &dns.TXT{
			Hdr: dns.RR_Header{
				Name:   dns.Fqdn(libdns.AbsoluteName(rr.Name, zone)),
				Rrtype: dns.TypeTXT, Class: dns.ClassINET, Ttl: uint32(rr.TTL / time.Second),
			},
			Txt: []string{rr.Data}, // a challenge's value has 43 characters, of 255
		})
	}
	return out
}

// update sends m over TCP: nothing is cut off, and nobody else answers.
func (p *rfc2136) update(ctx context.Context, m *dns.Msg) error {
	client := &dns.Client{Net: "tcp", Timeout: queryTimeout}
	if p.key != "" {
		client.TsigSecret = map[string]string{p.key: p.secretB64}
		m.SetTsig(p.key, p.alg, fudge, time.Now().Unix())
	}
	answer, _, err := client.ExchangeContext(ctx, m, p.server)
	switch {
	case answer != nil && answer.Rcode != dns.RcodeSuccess:
		return fmt.Errorf("update at %s: %s%s", p.server, dns.RcodeToString[answer.Rcode], hint(answer))
	case err != nil:
		return fmt.Errorf("update at %s: %w", p.server, err)
	}
	return nil
}

// hint says what is usually behind a refusal.
func hint(answer *dns.Msg) string {
	if t := answer.IsTsig(); t != nil && t.Error != 0 {
		return map[uint16]string{
			dns.RcodeBadSig:  " (the key's secret is another)",
			dns.RcodeBadKey:  " (the server does not know the key's name or algorithm)",
			dns.RcodeBadTime: " (one of the two clocks is wrong)",
		}[t.Error]
	}
	return map[int]string{
		dns.RcodeRefused: " (the key may not change this name)",
		dns.RcodeNotAuth: " (not its zone, or the key is not known there)",
		dns.RcodeNotZone: " (not its zone)",
	}[answer.Rcode]
}
