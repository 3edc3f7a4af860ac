// Package vhost is HTTP by host name: it finds the backend of a request,
// relays the request to it, and says clearly when there is none. It knows
// nothing of tunnels, names or users: a [Router] asks its Resolve function
// which [Backend] a host has, and a Backend asks its Dial function for a
// connection to the local service.
//
// The relay speaks HTTP/1.1 (RFC 9112) on both sides, in one loop per visitor
// connection. A message is read once, checked strictly, and written once; what
// cannot be understood in exactly one way is refused, never repaired. Bodies
// are streamed as they come, and an answer that breaks off is an
// aborted connection, never a short body that looks whole.
//
// Visitors may also speak HTTP/2 and HTTP/3, and services HTTP/2 in clear. Their
// frames are net/http's and quic-go's business; the messages in them pass the
// same scanner and the same rules, in HTTP/1.1's form.
package vhost
