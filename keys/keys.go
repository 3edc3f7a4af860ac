// Package keys says who a public key is and what it may do: authorized_keys
// files with their options and user certificates, read as sshd(8) reads them
// and reloaded while running; their edits; and the host keys.
//
// A Store holds one folder of authorized_keys files, one file a user, the
// file's name being the user's name. Lookups take no lock.
package keys

import (
	"strconv"
	"time"

	"golang.org/x/crypto/ssh"
)

// Key is one authenticated identity under the files as they were when it was
// asked for. It is immutable; Store.Check gives its present form.
type Key struct {
	// User is the name of the file that the key stands in.
	User string
	// Fingerprint is the key's "SHA256:..."; for a certificate, that of the
	// authority that signed it, because certified keys rotate.
	Fingerprint string
	// Identity is what default names derive from: the fingerprint, and for a
	// certificate the authority's fingerprint, a space and the user.
	Identity string
	// Options is what the line allows, narrowed by the certificate.
	Options Options
	// Expires is the first moment at which the key is no longer good: the
	// earlier of expiry-time (whose own second is still good) and the
	// certificate's ValidBefore. Zero: never.
	Expires time.Time
	// Source is the line that decided, "file:line".
	Source string

	offered ssh.PublicKey // as the client sent it: a key or *ssh.Certificate
}

// Refusal is why a key was not let in. It is the error of Authenticate and
// Check.
type Refusal struct {
	// Fingerprint is that of the offered key, for a certificate that of the
	// key in it, as ssh-keygen -l shows both.
	Fingerprint string
	// Reason is a phrase for the user that completes "key SHA256:...": "is
	// not registered here", "expired on 2026-01-02". It holds no text that
	// came from the client.
	Reason string
	// Unknown is set where nothing here names the key, so that adding it
	// would help.
	Unknown bool
}

func (r *Refusal) Error() string { return "key " + r.Fingerprint + " " + r.Reason }

// User is one user and how many keys and certificate authorities of theirs
// are usable now.
type User struct {
	Name string
	Keys int
}

// Problem is something in the files that an operator should know.
type Problem struct {
	File string
	Line int // 1 is the first; 0: the file as a whole
	// Message says what is wrong and what follows from it.
	Message string
	// Fatal is set where the files do not mean what they say: a key under two
	// users, a file that others may write, a file that cannot be read.
	Fatal bool
}

// Where is the place that the problem is at, "file:line" or the file alone.
func (p Problem) Where() string {
	if p.Line == 0 {
		return p.File
	}
	return p.File + ":" + strconv.Itoa(p.Line)
}
