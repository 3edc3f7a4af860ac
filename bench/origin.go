//go:build linux

package main

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"sync"
	"time"
)

// What the origin's TCP service does with a connection is its first byte.
const (
	echo   = 'e' // sends everything back, the first byte too
	source = 's' // sends until it is cut
	sink   = 'k' // takes, and for every MiB sends the count so far, 8 bytes
)

// origin is the local services: nginx for files, and this program once more
// for TCP and for uploads, as a process of its own so that its CPU is told
// apart from the load's.
type origin struct {
	web, upload, tcp string // addresses
	procs            []*process
	hold             io.Closer // the helper's stdin: it ends with it
}

// Sizes of the files that nginx serves, and of the one that is uploaded.
const (
	smallFile = 1 << 10
	largeFile = 1 << 30
	sentFile  = 512 << 20
)

func (b *bench) startOrigin() (*origin, error) {
	o, err := b.startHelper()
	if err != nil {
		return nil, err
	}
	for name, size := range map[string]int{"1k": smallFile, "1g": largeFile, "512m": sentFile} {
		if err := fill(b.path(name), size); err != nil {
			o.close()
			return nil, err
		}
	}
	o.web = freeAddr()
	p, err := b.startNginx("origin", fmt.Sprintf("server { listen %s backlog=4096; root %s; }", o.web, b.dir), o.web)
	if err != nil {
		o.close()
		return nil, err
	}
	o.procs = append(o.procs, p)
	return o, nil
}

func (o *origin) close() {
	o.hold.Close()
	for _, p := range o.procs {
		p.stop()
	}
}

// fill writes a file in the bench's folder, which is in memory.
func fill(path string, size int) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer f.Close()
	buf := make([]byte, min(size, 1<<20))
	for ; size > 0; size -= len(buf) {
		if _, err := f.Write(buf); err != nil {
			return err
		}
	}
	return f.Close()
}

// startHelper starts this program as an origin, through the words of prefix
// (ip netns exec NAME) where it is to live elsewhere.
func (b *bench) startHelper(prefix ...string) (*origin, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	argv := append(prefix, self, "origin")
	p := &process{name: "helper", cmd: exec.Command(argv[0], argv[1:]...), done: make(chan struct{})}
	p.cmd.Stderr = os.Stderr
	in, err := p.cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	line, _ := bufio.NewReader(out).ReadString('\n')
	go p.reap()
	o := &origin{procs: []*process{p}, hold: in}
	if _, err := fmt.Sscan(line, &o.tcp, &o.upload); err != nil {
		o.close()
		return nil, fmt.Errorf("helper: %w", err)
	}
	return o, nil
}

// serveOrigin is the helper: it says where it listens, and ends with in.
func serveOrigin(in io.Reader, out io.Writer) error {
	tcp, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	web, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	var wait sync.WaitGroup
	wait.Go(func() { serveTCP(tcp) })
	wait.Go(func() { http.Serve(web, http.HandlerFunc(takeUpload)) })
	fmt.Fprintln(out, tcp.Addr(), web.Addr())
	io.Copy(io.Discard, in)
	tcp.Close()
	web.Close()
	wait.Wait() // what is being served ends with the process
	return nil
}

func takeUpload(w http.ResponseWriter, r *http.Request) {
	n, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, struct{ io.Reader }{r.Body}, make([]byte, 256<<10))
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	fmt.Fprintln(w, n)
}

func serveTCP(ln net.Listener) {
	for {
		c, err := ln.Accept()
		if err != nil {
			return
		}
		go serveService(c)
	}
}

func serveService(c net.Conn) {
	defer c.Close()
	var kind [1]byte
	if _, err := io.ReadFull(c, kind[:]); err != nil {
		return
	}
	switch kind[0] {
	case echo:
		serveEcho(c)
	case source:
		serveSource(c)
	case sink:
		serveSink(c)
	}
}

func serveEcho(c net.Conn) {
	buf := make([]byte, 4<<10) // small: a thousand idle ones are held
	buf[0] = echo
	for n, err := 1, error(nil); err == nil; n, err = c.Read(buf) {
		if _, err := c.Write(buf[:n]); err != nil {
			return
		}
	}
}

func serveSource(c net.Conn) {
	for buf := make([]byte, 256<<10); ; {
		if _, err := c.Write(buf); err != nil {
			return
		}
	}
}

func serveSink(c net.Conn) {
	buf := make([]byte, 256<<10)
	for total, told := uint64(0), uint64(0); ; {
		n, err := c.Read(buf)
		if err != nil {
			return
		}
		if total += uint64(n); total-told < 1<<20 {
			continue
		}
		told = total
		if _, err := c.Write(binary.BigEndian.AppendUint64(nil, total)); err != nil {
			return
		}
	}
}

// startNginx starts nginx with one worker and the given part of its http
// block, and waits until it listens at addr.
func (b *bench) startNginx(name, servers, addr string) (*process, error) {
	conf := b.path(name + ".conf")
	var text strings.Builder
	if os.Geteuid() == 0 {
		fmt.Fprintln(&text, "user root;") // the folder is root's alone
	}
	fmt.Fprintf(&text, "daemon off; worker_processes 1; pid %s; error_log stderr;\nevents { worker_connections 8192; }\n", b.path(name+".pid"))
	fmt.Fprintln(&text, "http { access_log off; sendfile on; tcp_nopush on; keepalive_timeout 120; keepalive_requests 100000000; client_max_body_size 0;")
	for _, kind := range []string{"client_body", "proxy", "fastcgi", "uwsgi", "scgi"} {
		fmt.Fprintf(&text, "%s_temp_path %s;\n", kind, b.path(name+"-"+kind))
	}
	fmt.Fprintln(&text, servers, "}")
	if err := os.WriteFile(conf, []byte(text.String()), 0o600); err != nil {
		return nil, err
	}
	p, err := b.start(name, program("nginx"), "-p", b.dir, "-e", "stderr", "-c", conf)
	if err != nil {
		return nil, err
	}
	if err := p.ready(listens(addr)); err != nil {
		p.stop()
		return nil, err
	}
	return p, nil
}

// ask sends the byte that chooses the service, and bounds the connection.
func ask(addr string, kind byte, limit time.Duration) (net.Conn, error) {
	c, err := net.DialTimeout("tcp", addr, 10*time.Second)
	if err != nil {
		return nil, err
	}
	c.SetDeadline(time.Now().Add(limit))
	if _, err := c.Write([]byte{kind}); err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}
