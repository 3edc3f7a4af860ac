package keys

import (
	"context"
	"errors"
	"net"
	"strconv"
	"strings"
)

// permit is one permitlisten or permitopen.
type permit struct {
	host string // lower case, without the brackets of an IPv6 address
	port uint32 // 0: any
}

func (p permit) String() string {
	host, port := p.host, "*"
	if strings.Contains(host, ":") {
		host = "[" + host + "]"
	}
	if p.port != 0 {
		port = strconv.FormatUint(uint64(p.port), 10)
	}
	return host + ":" + port
}

// parsePermit reads "host:port", "[address]:port" or, where bare is allowed,
// "port" alone. As in sshd, "none" is no permit but a port without a host.
func parsePermit(s string, bare bool) (permit, error) {
	if bare && !strings.Contains(s, ":") {
		s = "*:" + s
	}
	host, port, ok := cutHost(s)
	if !ok {
		return permit{}, errors.New("is not host:port")
	}
	n, err := parsePort(port)
	return permit{host: strings.ToLower(host), port: n}, err
}

// cutHost splits at the first colon or slash behind the host; sshd takes
// either. A host in brackets may hold colons.
func cutHost(s string) (host, port string, ok bool) {
	end := strings.IndexAny(s, ":/")
	if strings.HasPrefix(s, "[") {
		end = strings.IndexByte(s, ']') + 1
		if end >= len(s) || end == 0 || !strings.ContainsRune(":/", rune(s[end])) {
			return "", "", false
		}
		return s[1 : end-1], s[end+1:], true
	}
	if end < 0 {
		return "", "", false
	}
	return s[:end], s[end+1:], true
}

// parsePort reads 1 to 65535, "*" (0), or the name of a TCP service.
func parsePort(s string) (uint32, error) {
	if s == "*" {
		return 0, nil
	}
	n, err := strconv.ParseUint(s, 10, 16)
	if err != nil && strings.Trim(s, "0123456789+-") != "" {
		r := net.Resolver{PreferGo: true}
		p, lerr := r.LookupPort(context.Background(), "tcp", s)
		n, err = uint64(p), lerr
	}
	if err != nil || n == 0 {
		return 0, errors.New("has no port from 1 to 65535")
	}
	return uint32(n), nil
}

// matchPort reports whether p covers port.
func (p permit) matchPort(port uint32) bool { return p.port == 0 || p.port == port }

// glob reports whether s matches pattern, in which * stands for any run of
// bytes and ? for any one byte (ssh_config(5), PATTERNS). It takes time
// proportional to the product of the lengths at worst.
func glob(pattern, s string) bool {
	star, mark := -1, 0
	p, i := 0, 0
	for i < len(s) {
		switch {
		case p < len(pattern) && pattern[p] == '*':
			star, mark = p, i
			p++
		case p < len(pattern) && (pattern[p] == '?' || pattern[p] == s[i]):
			p++
			i++
		case star >= 0: // let the last star take one byte more
			mark++
			p, i = star+1, mark
		default:
			return false
		}
	}
	return strings.Trim(pattern[p:], "*") == ""
}
