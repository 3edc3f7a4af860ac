package vhost

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
)

// wsOrigin echoes messages, and closes with 4321 when it is told "bye".
func wsOrigin(t *testing.T) string {
	return httpOrigin(t, func(w http.ResponseWriter, q *http.Request) {
		c, err := websocket.Accept(w, q, &websocket.AcceptOptions{InsecureSkipVerify: true, Subprotocols: []string{"chat"}, CompressionMode: websocket.CompressionContextTakeover})
		if err != nil {
			return
		}
		c.SetReadLimit(1 << 20)
		for {
			kind, data, err := c.Read(q.Context())
			if err != nil {
				return
			}
			if string(data) == "bye" {
				c.Close(4321, "so long")
				return
			}
			if c.Write(q.Context(), kind, data) != nil {
				return
			}
		}
	})
}

// TestWebSocket with messages of every size of length field, fragments, pings,
// compression, and a close code of the service's own.
func TestWebSocket(t *testing.T) {
	t.Parallel()
	seen := make(chan Exchange, 1)
	g := front(t, wsOrigin(t), func(o *BackendOptions) { o.Observe = func(x *Exchange) { seen <- *x } })
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	c, resp, err := websocket.Dial(ctx, "ws://"+g.addr+"/socket", &websocket.DialOptions{Subprotocols: []string{"chat"}, CompressionMode: websocket.CompressionContextTakeover})
	if err != nil {
		t.Fatal(err)
	}
	defer c.CloseNow()
	if resp.Header.Get("Sec-WebSocket-Protocol") != "chat" || !strings.Contains(resp.Header.Get("Sec-WebSocket-Extensions"), "permessage-deflate") {
		t.Errorf("%v", resp.Header)
	}
	c.SetReadLimit(1 << 20)
	for _, size := range []int{0, 1, 125, 126, 65535, 65536, 300_000} {
		data := bytes.Repeat([]byte("0123456789"), size/10+1)[:size]
		w, err := c.Writer(ctx, websocket.MessageBinary)
		if err != nil {
			t.Fatal(err)
		}
		for part := range bytes.SplitSeq(data, []byte("789")) {
			w.Write(part)
		}
		w.Close()
		kind, got, err := c.Read(ctx)
		if want := bytes.ReplaceAll(data, []byte("789"), nil); err != nil || kind != websocket.MessageBinary || !bytes.Equal(got, want) {
			t.Fatalf("%d: %v, %d bytes, %v", size, kind, len(got), err)
		}
	}
	c.Write(ctx, websocket.MessageText, []byte("bye"))
	if _, _, err := c.Read(ctx); websocket.CloseStatus(err) != 4321 {
		t.Error(err)
	}
	if x := <-seen; x.Status != 101 || x.Err != nil || x.BytesIn == 0 || x.BytesOut == 0 {
		t.Errorf("%+v", x)
	}
}

const wsRequest = "GET /s HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, Upgrade\r\nUpgrade: WebSocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"

// TestUpgradeBytes: what either side sends right behind its head arrives, and
// half-closes are passed on.
func TestUpgradeBytes(t *testing.T) {
	o := rawOrigin(t, func(c net.Conn, r *bufio.Reader) {
		head, _ := readHead(r)
		if !strings.Contains(head, "\r\nConnection: Upgrade\r\nUpgrade: WebSocket\r\n") {
			t.Errorf("%q", head)
		}
		io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nX-A: b\r\n\r\nearly")
		io.Copy(c, r)
		io.WriteString(c, "late")
		c.(*net.TCPConn).CloseWrite()
	})
	c := front(t, o.addr).dial()
	c.send(wsRequest + "\r\nat once")
	time.Sleep(2 * lull) // silence must not end it, nor the watch eat a byte
	c.send(", then")
	c.Conn.(*net.TCPConn).CloseWrite()
	const want = "HTTP/1.1 101 Switching Protocols\r\nX-A: b\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nearlyat once, thenlate"
	if got := c.ended(); string(got) != want {
		t.Errorf("got  %q\nwant %q", got, want)
	}
}

// TestOtherUpgrades are those that are no WebSocket, as they are asked for.
func TestOtherUpgrades(t *testing.T) {
	for _, head := range []string{
		"POST /containers/x/attach HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n",
		"POST /exec HTTP/1.1\r\nHost: a\r\nUpgrade: SPDY/3.1\r\nContent-Length: 0\r\nConnection: upgrade\r\n\r\n",
		"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: TCP\r\n\r\n",
	} {
		o := rawOrigin(t, func(c net.Conn, r *bufio.Reader) {
			q, err := http.ReadRequest(r)
			if err != nil {
				return
			}
			io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: "+q.Header.Get("Upgrade")+"\r\n\r\n")
			io.Copy(c, r)
			c.(*net.TCPConn).CloseWrite()
		})
		c := front(t, o.addr).dial()
		c.send("%s", head+"raw bytes")
		c.Conn.(*net.TCPConn).CloseWrite()
		if got := c.ended(); status(got) != 101 || !bytes.HasSuffix(got, []byte("\r\n\r\nraw bytes")) {
			t.Errorf("%q: %q", head, got)
		}
	}
}

// TestUpgradeRefused: a service may decline, and the connection goes on as it
// was.
func TestUpgradeRefused(t *testing.T) {
	c := front(t, httpOrigin(t, func(w http.ResponseWriter, q *http.Request) { io.WriteString(w, q.Header.Get("Upgrade")) })).dial()
	for _, fields := range []string{"\r\n", "Content-Length: 2\r\n\r\nok"} {
		c.send(wsRequest + fields)
		if resp, body := c.response("GET"); resp.StatusCode != 200 || (body == "WebSocket") != (fields == "\r\n") {
			t.Errorf("%v %q", resp, body)
		}
	}
}

// TestWrongSwitch: a 101 to something else is no 101.
func TestWrongSwitch(t *testing.T) {
	g := front(t, rawOrigin(t, answering("HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n\r\n")).addr)
	c := g.dial()
	c.send(wsRequest + "\r\n")
	if resp, _ := c.response("GET"); resp.StatusCode != 502 {
		t.Errorf("%v", resp)
	}
}

// TestSwitchedEnd: Shutdown does not wait for switched connections, and a
// closed backend ends them.
func TestSwitchedEnd(t *testing.T) {
	g := front(t, wsOrigin(t))
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	c, _, err := websocket.Dial(ctx, "ws://"+g.addr, nil)
	if err != nil {
		t.Fatal(err)
	}
	g.backend.Close(nil)
	if _, _, err := c.Read(ctx); err == nil || ctx.Err() != nil {
		t.Error(err, ctx.Err())
	}
	c.CloseNow()
	g = front(t, wsOrigin(t))
	if c, _, err = websocket.Dial(ctx, "ws://"+g.addr, nil); err != nil {
		t.Fatal(err)
	}
	defer c.CloseNow()
	if err := g.Shutdown(ctx); err != nil {
		t.Error(err)
	}
	if all, _ := g.backend.sizes(); all != 0 {
		t.Errorf("%d connections are left", all)
	}
}
