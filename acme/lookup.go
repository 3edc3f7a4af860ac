package acme

import (
	"context"
	"fmt"
	"net"
	"slices"
	"strings"

	"github.com/miekg/dns"
)

// isOut says whether p's record is at every server that can be asked.
func isOut(ctx context.Context, p presented, servers []string) bool {
	for _, server := range servers {
		answer, err := ask(ctx, server, dns.Fqdn(p.at), dns.TypeTXT)
		if err == nil && answer.Rcode != dns.RcodeRefused && !slices.Contains(textsIn(answer), p.value) {
			return false
		}
	}
	return true
}

// textsIn are the TXT records of answer.
func textsIn(answer *dns.Msg) (texts []string) {
	for _, rr := range answer.Answer {
		if t, ok := rr.(*dns.TXT); ok {
			texts = append(texts, strings.Join(t.Txt, ""))
		}
	}
	return texts
}

// serversOf asks server who serves the zone that name is in.
func serversOf(ctx context.Context, server, name string) (list []string, err error) {
	zone, err := apex(ctx, server, name)
	if err != nil {
		return nil, err
	}
	answer, err := ask(ctx, server, zone, dns.TypeNS)
	if err != nil {
		return nil, err
	}
	for _, rr := range answer.Answer {
		if ns, ok := rr.(*dns.NS); ok {
			list = append(list, net.JoinHostPort(strings.TrimSuffix(ns.Ns, "."), "53"))
		}
	}
	if list == nil || dns.CountLabel(zone) < 2 { // a top-level domain's have heard of nothing
		return nil, fmt.Errorf("no name server of %s is known", name)
	}
	return list, nil
}

// apex asks server for the zone that name is in: its SOA record is the answer,
// or stands beside the answer that there is none (RFC 2308 section 3).
func apex(ctx context.Context, server, name string) (string, error) {
	fqdn := dns.Fqdn(name)
	for _, i := range dns.Split(fqdn) {
		answer, err := ask(ctx, server, fqdn[i:], dns.TypeSOA)
		if err != nil {
			return "", err
		}
		for _, rr := range slices.Concat(answer.Answer, answer.Ns) {
			if soa, ok := rr.(*dns.SOA); ok && soa.Hdr.Name != "." && dns.IsSubDomain(soa.Hdr.Name, fqdn) {
				return soa.Hdr.Name, nil
			}
		}
	}
	return "", fmt.Errorf("%s knows no zone that %s is in", server, name)
}

// cnameIn reads answer. No such name is the usual case: the record is yet to
// be made.
func cnameIn(answer *dns.Msg, fqdn string) (string, error) {
	if answer.Rcode != dns.RcodeSuccess && answer.Rcode != dns.RcodeNameError {
		return "", fmt.Errorf("lookup CNAME: %s", dns.RcodeToString[answer.Rcode])
	}
	for _, rr := range answer.Answer {
		if c, ok := rr.(*dns.CNAME); ok && dns.CanonicalName(c.Hdr.Name) == dns.CanonicalName(fqdn) {
			return c.Target, nil
		}
	}
	return "", nil
}

// ask asks server over UDP, and over TCP what does not fit or gets lost.
func ask(ctx context.Context, server, fqdn string, kind uint16) (*dns.Msg, error) {
	m := new(dns.Msg).SetQuestion(fqdn, kind)
	m.SetEdns0(1232, false)
	answer, _, err := (&dns.Client{Timeout: queryTimeout / 4}).ExchangeContext(ctx, m, server)
	if err != nil || answer.Truncated {
		answer, _, err = (&dns.Client{Net: "tcp", Timeout: queryTimeout / 4}).ExchangeContext(ctx, m, server)
	}
	return answer, err
}
