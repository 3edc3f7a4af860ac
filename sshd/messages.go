package sshd

import (
	"encoding/binary"
	"errors"
	"fmt"

	"golang.org/x/crypto/ssh"
)

// The messages of the connection protocol (RFC 4254, section 9), and of
// OpenSSH's ping (its PROTOCOL, section 1.9).
const (
	msgUserAuthFirst  = 50
	msgUserAuthOK     = 52
	msgUserAuthLast   = 79
	msgGlobalRequest  = 80
	msgRequestSuccess = 81
	msgRequestFailure = 82
	msgChannelOpen    = 90
	msgChannelConfirm = 91
	msgChannelRefused = 92
	msgChannelAdjust  = 93
	msgChannelData    = 94
	msgChannelStderr  = 95
	msgChannelEOF     = 96
	msgChannelClose   = 97
	msgChannelRequest = 98
	msgChannelSuccess = 99
	msgChannelFailure = 100
	msgPing           = 192
	msgPong           = 193
)

const (
	// maxData is how many bytes of data one packet carries, either way (RFC
	// 4253, section 6.1).
	maxData = 32 << 10
	// dataHead is what stands before them: number, channel, length.
	dataHead = 1 + 4 + 4
	// stderrHead is that of extended data, which has its kind as well.
	stderrHead     = dataHead + 4
	extendedStderr = 1
)

type globalRequestMsg struct {
	Type      string `sshtype:"80"`
	WantReply bool
	Payload   []byte `ssh:"rest"`
}

type channelOpenMsg struct {
	Kind                    string `sshtype:"90"`
	Sender, Window, MaxData uint32
	Extra                   []byte `ssh:"rest"`
}

type channelConfirmMsg struct {
	Recipient, Sender, Window, MaxData uint32 `sshtype:"91"`
	Rest                               []byte `ssh:"rest"`
}

type channelRefusedMsg struct {
	Recipient, Reason uint32 `sshtype:"92"`
	Text, Language    string
}

type channelRequestMsg struct {
	Recipient uint32 `sshtype:"98"`
	Type      string
	WantReply bool
	Payload   []byte `ssh:"rest"`
}

// channelMsg is a message that has a channel's number, and perhaps a second
// one.
func channelMsg(kind byte, recipient uint32, more ...uint32) []byte {
	p := binary.BigEndian.AppendUint32([]byte{kind}, recipient)
	for _, n := range more {
		p = binary.BigEndian.AppendUint32(p, n)
	}
	return p
}

// errProtocol is what a client is let go for that sends what it must not.
var errProtocol = errors.New("the client broke the protocol")

func malformed(p []byte) error { return fmt.Errorf("%w: message %d is malformed", errProtocol, p[0]) }

// dataOf is what a packet carries whose head is that long; the length is its
// last field.
func dataOf(p []byte, head int) ([]byte, error) {
	if len(p) < head || int64(binary.BigEndian.Uint32(p[head-4:])) != int64(len(p)-head) || len(p)-head > maxData {
		return nil, malformed(p)
	}
	return p[head:], nil
}

// unmarshal decodes a message strictly.
func unmarshal(p []byte, m any) error {
	if ssh.Unmarshal(p, m) != nil {
		return malformed(p)
	}
	return nil
}
