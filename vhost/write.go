package vhost

// responder is the way back to a visitor. Messages are given to it in HTTP/1.1's
// form: each head whole at the beginning of a write, and content behind it.
type responder interface {
	sink
	// end says that the message is whole. b holds its trailer fields, where
	// these were not in the message; it may be nil.
	end(b *body)
	// abort sees to it that what was sent cannot be taken for all there is.
	abort()
	// linger gives a visitor that is still sending the time to read its answer.
	linger()
}
