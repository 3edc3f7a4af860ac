package gateway

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"go.etcd.io/bbolt"
)

func TestFirstUserOwnsTheName(t *testing.T) {
	g := start(t, newState(t))
	ann := g.login("ann")
	ann.forward("blog", 80)
	g.served("blog", "ann")
	for _, addr := range []string{"blog", "BLOG", "blog.localhost", "Blog."} {
		if code, message := g.refusedFor("bob", addr, 80); code != "in_use" || !strings.Contains(message, `"blog" is in use by another user`) {
			t.Errorf("%s: %s %s", addr, code, message)
		}
	}
	// A name has one owner on every port.
	if code, _ := g.refusedFor("bob", "blog", 443); code == "granted" {
		t.Error("blog:443 granted to another")
	}
	// It stays ann's when she has gone.
	ann.Close()
	eventually(t, "ann has gone", func() bool { return len(g.tunnelsOf("ann")) == 0 })
	if code, _ := g.refusedFor("bob", "blog", 80); code != "in_use" {
		t.Error("after she has gone:", code)
	}
	if _, ok := g.login("ann2").forward("blog", 80); !ok {
		t.Error("her other key may not have it")
	}
	g.served("blog", "ann2")
}

// What is refused or withdrawn before it is live changes nothing.
func TestReservedIsNotOwned(t *testing.T) {
	g := start(t, newState(t))
	ann := g.login("ann")
	s, err := ann.NewSession() // a session that does not speak holds the tunnel pending
	if err != nil {
		t.Fatal(err)
	}
	ann.forward("blog", 80)
	if code, _ := g.refusedFor("bob", "blog", 80); code != "in_use" {
		t.Error("while it is reserved:", code)
	}
	if !ann.cancel("blog", 80) {
		t.Error("not cancelled")
	}
	s.Close()
	if owner := g.ofUser(bucketNames, "blog"); owner != "" {
		t.Error("owned by", owner)
	}
	if _, ok := g.login("bob").forward("blog", 80); !ok {
		t.Error("not free again")
	}
	g.served("blog", "bob")
}

func TestOwnershipExpires(t *testing.T) {
	g := start(t, newState(t))
	for name, used := range map[string]time.Duration{"old": 31 * 24 * time.Hour, "new": 29 * 24 * time.Hour} {
		if err := g.state.ledger.put(bucketNames, name, record{User: "ann", Used: time.Now().Add(-used)}); err != nil {
			t.Fatal(err)
		}
	}
	if code, _ := g.refusedFor("bob", "new", 80); code != "in_use" {
		t.Error("29 days:", code)
	}
	bob := g.login("bob")
	if _, ok := bob.forward("old", 80); !ok {
		t.Error("31 days: refused")
	}
	g.served("old", "bob")
	eventually(t, "bob owns it", func() bool { return g.ofUser(bucketNames, "old") == "bob" })
	if err := g.state.ledger.expire(time.Now().Add(40*24*time.Hour), g.cfg.NameTTL); err != nil {
		t.Error(err)
	}
	for _, user := range []string{"ann", "bob"} {
		if left := g.state.ledger.owned(bucketNames, user, time.Now(), g.cfg.NameTTL); len(left) != 0 {
			t.Errorf("%s still has %v", user, left)
		}
	}
}

func TestNamesAreLimited(t *testing.T) {
	g := start(t, newState(t), func(c *Config) { c.MaxNames = 5 })
	u := g.login("ann")
	for i := range 5 {
		if _, ok := u.forward(fmt.Sprint("name", i), 80); !ok {
			t.Fatal("refused", i)
		}
	}
	if code, message := g.refusedFor("ann", "one-more", 80); code != "limit" || !strings.Contains(message, "5 names") {
		t.Error(code, message)
	}
	g.served("name4", "ann")
	if code, _ := g.refusedFor("ann", "", 80); code != "granted" {
		t.Error("the default name counts:", code)
	}
	if code, _ := g.refusedFor("ann2", "name0", 80); code != "granted" {
		t.Error("a name that is theirs already:", code)
	}
	if code, _ := g.refusedFor("bob", "one-more", 80); code != "granted" {
		t.Error("another user:", code)
	}
}

// What is live is owned, however short the time is that it is kept after.
func TestLiveOnesCount(t *testing.T) {
	_, ports := withPorts(t, 12)
	g := start(t, newState(t), ports, func(c *Config) { c.MaxNames, c.MaxPorts, c.NameTTL = 1, 1, time.Nanosecond })
	u := g.login("ann")
	_, name := u.forward("one", 80)
	_, port := u.forward("", 0)
	if !name || !port {
		t.Fatal("refused", name, port)
	}
	g.served("one", "ann")
	if code, _ := g.refusedFor("ann", "two", 80); code != "limit" {
		t.Error("a second name:", code)
	}
	if code, _ := g.refusedFor("ann2", "one", 80); code != "granted" {
		t.Error("the live name again:", code)
	}
	if _, ok := u.forward("", 0); ok {
		t.Error("a second port is granted")
	}
}

func TestPorts(t *testing.T) {
	lo, ports := withPorts(t, 12)
	dir := newState(t)
	g := start(t, dir, ports, func(c *Config) { c.MaxPorts = 3 })
	ann := g.login("ann")
	any, ok := ann.forward("", 0)
	if !ok || any < lo || any >= lo+12 {
		t.Fatalf("any port: %d %v", any, ok)
	}
	named, _ := ann.forward("db", 0)
	chosen := lo
	for chosen == any || chosen == named {
		chosen++
	}
	if _, ok := ann.forward("", uint32(chosen)); !ok {
		t.Fatal("a chosen port is refused")
	}
	for _, p := range []int{any, named, chosen} {
		eventually(t, "a visitor gets through", func() bool { return greeting(p) == "ann" })
		if code, _ := g.refusedFor("bob", "", uint32(p)); code != "in_use" {
			t.Errorf("bob on %d: %q", p, code)
		}
	}
	if code, _ := g.refusedFor("ann2", "", 0); code != "granted" { // the first of its connection: the same port
		t.Error("the same port again:", code)
	}
	free := lo
	for free == any || free == named || free == chosen {
		free++
	}
	if code, _ := g.refusedFor("ann", "", uint32(free)); code != "limit" {
		t.Error("over the limit:", code)
	}
	if code, _ := g.refusedFor("ann", "", uint32(lo+12)); code != "port_range" {
		t.Error("outside:", code)
	}
	g.stop()

	// The same after a restart, by whichever key of hers.
	g = start(t, dir, ports, func(c *Config) { c.MaxPorts = 3 })
	again := g.login("ann2")
	if p, ok := again.forward("", 0); !ok || p != any {
		t.Errorf("after a restart: %d, want %d", p, any)
	}
	if p, ok := again.forward("db", 0); !ok || p != named {
		t.Errorf("after a restart: %d, want %d", p, named)
	}
	if code, _ := g.refusedFor("bob", "", uint32(chosen)); code != "in_use" {
		t.Error("bob after a restart:", code)
	}
}

// A -R 0 whose port another program has meanwhile gets another one, is told so,
// and has its own again once that is free.
func TestPortThatIsBusy(t *testing.T) {
	_, ports := withPorts(t, 4)
	g := start(t, newState(t), ports)
	for _, name := range []string{"", "db"} {
		had := map[string]int{}
		for _, when := range []string{"first", "busy", "busy again", "free"} {
			var other net.Listener
			if strings.HasPrefix(when, "busy") {
				var err error
				if other, err = net.Listen("tcp", fmt.Sprint("127.0.0.1:", had["first"])); err != nil {
					t.Fatal(err)
				}
			}
			u := g.login("ann")
			had[when], _ = u.forward(name, 0)
			eventually(t, "it is live", func() bool { return len(g.tunnelsOf("ann")) == 1 })
			if note := g.tunnelsOf("ann")[0].note; (note != "") != (other != nil) {
				t.Errorf("%q %s: told %q", name, when, note)
			}
			u.Close()
			eventually(t, "it is gone", func() bool { return len(g.allClients()) == 0 })
			if other != nil {
				other.Close()
			}
		}
		if had["busy"] == had["first"] || had["busy again"] != had["busy"] || had["free"] != had["first"] {
			t.Errorf("%q: %v", name, had)
		}
	}
}

// A machine on which no port can be opened is told apart from ports that are
// taken: one is tried, not each of the range.
func TestNoPortCanBeOpened(t *testing.T) {
	_, ports := withPorts(t, 4)
	g := opened(t, newState(t), ports)
	g.cfg.tcpHosts = []string{"192.0.2.1"} // an address that the machine has lost
	r := run(t, "", g)
	if code, text := r.refusedFor("ann", "", 0); code != "listen" {
		t.Errorf("refused with %q: %s", code, text)
	}
	g.registry.mu.Lock()
	defer g.registry.mu.Unlock()
	if n := len(g.registry.fresh[bucketPorts]); n != 0 {
		t.Error(n, "ports are kept for ann")
	}
}

func TestNamesOutliveARestart(t *testing.T) {
	dir := newState(t)
	g := start(t, dir)
	g.login("ann").forward("blog", 80)
	g.served("blog", "ann")
	g.stop()
	g = start(t, dir)
	if code, _ := g.refusedFor("bob", "blog", 80); code != "in_use" {
		t.Error(code)
	}
	// Its owner is expected back, so a visitor waits.
	got := make(chan string, 1)
	go func() { _, body := g.get("blog"); got <- body }()
	eventually(t, "the visitor waits", func() bool { s := g.registry.lookup("blog"); return s != nil && s.waiting.Load() == 1 })
	g.login("ann").forward("blog", 80)
	if body := <-got; body != "ann" {
		t.Error(body)
	}
}

// One connection gives up what it has in any order, and as often as it likes.
func TestClaimAndReleaseLeaveNothing(t *testing.T) {
	_, ports := withPorts(t, 4)
	g := start(t, newState(t), ports)
	u := g.login("ann")
	for range 30 {
		p, ok := u.forward("", 0)
		if _, ok2 := u.forward("", 80); !ok || !ok2 {
			t.Fatal("refused")
		}
		if !u.cancel("", uint32(p)) || !u.cancel("", 80) {
			t.Fatal("not cancelled")
		}
	}
	r := g.registry
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.ports)+len(r.holds)+len(r.fresh[bucketNames])+len(r.fresh[bucketPorts]) != 0 {
		t.Errorf("left: %v %v %v %v", r.ports, r.holds, r.fresh[bucketNames], r.fresh[bucketPorts])
	}
}

// Of two users who ask for many names at once, each name goes to one.
func TestClaimRaces(t *testing.T) {
	lo, ports := withPorts(t, 4)
	g := start(t, newState(t), ports, func(c *Config) { c.MaxNames = 100 })
	const names = 12
	got := map[string][]bool{}
	var mu sync.Mutex
	var wait sync.WaitGroup
	for _, key := range []string{"ann", "bob", "ann2"} {
		u := g.login(key)
		wait.Go(func() {
			for i := range names {
				addr, port := fmt.Sprint("name", i), uint32(80)
				if i%4 == 3 {
					addr, port = "", uint32(lo+i/4)
				}
				_, ok := u.forward(addr, port)
				mu.Lock()
				if ok {
					got[key] = append(got[key], true)
				}
				mu.Unlock()
				if ok && i%3 == 0 {
					u.cancel(addr, port)
				}
			}
		})
	}
	wait.Wait()
	for i := range names {
		if i%4 == 3 || i%3 == 0 {
			continue
		}
		name := fmt.Sprint("name", i)
		eventually(t, name+" has one owner", func() bool { return g.ofUser(bucketNames, name) != "" })
	}
	g.registry.mu.Lock()
	defer g.registry.mu.Unlock()
	for p, s := range g.registry.ports {
		if s.key != strconv.Itoa(p) || s.claims < 1 {
			t.Errorf("port %d: %+v", p, s)
		}
	}
}

func TestLedgerOfANewerVersion(t *testing.T) {
	dir := newState(t)
	start(t, dir).stop()
	path := filepath.Join(dir, "adit.db")
	db, err := bbolt.Open(path, 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	err = db.Update(func(tx *bbolt.Tx) error { return bucketMeta.of(tx).Put([]byte("version"), []byte("2")) })
	if err != nil {
		t.Fatal(err)
	}
	db.Close()
	before, _ := os.ReadFile(path)
	if _, err := New(config(dir)); err == nil || !strings.Contains(err.Error(), "newer version") {
		t.Error("New:", err)
	}
	if after, _ := os.ReadFile(path); string(after) != string(before) {
		t.Error("it was written to")
	}
}

func TestLostSecretsAreNotMadeAnew(t *testing.T) {
	for _, name := range []string{"host_key", "name_secret"} {
		t.Run(name, func(t *testing.T) {
			dir := newState(t)
			start(t, dir).stop()
			path := filepath.Join(dir, name)
			if err := os.Remove(path); err != nil {
				t.Fatal(err)
			}
			if _, err := New(config(dir)); err == nil || !strings.Contains(err.Error(), name+" is gone") {
				t.Error("New:", err)
			}
			if _, err := os.Stat(path); err == nil {
				t.Error("made anew")
			}
		})
	}
	t.Run("all but certificates", func(t *testing.T) {
		dir := newState(t)
		os.MkdirAll(filepath.Join(dir, "certificates", "acme"), 0o700)
		_, err := New(config(dir))
		if err == nil || !strings.Contains(err.Error(), "host_key is gone") || !strings.Contains(err.Error(), "name_secret is gone") {
			t.Error("New:", err)
		}
		if _, err := os.Stat(filepath.Join(dir, "adit.db")); err == nil {
			t.Error("a database was made")
		}
	})
	t.Run("name_secret cut short", func(t *testing.T) {
		dir := newState(t)
		start(t, dir).stop()
		os.WriteFile(filepath.Join(dir, "name_secret"), []byte("short"), 0o600)
		if _, err := New(config(dir)); err == nil || !strings.Contains(err.Error(), "32") {
			t.Error("New:", err)
		}
	})
	t.Run("name_secret readable", func(t *testing.T) {
		dir := newState(t)
		start(t, dir).stop()
		os.Chmod(filepath.Join(dir, "name_secret"), 0o644)
		if _, err := New(config(dir)); err == nil || !strings.Contains(err.Error(), "chmod 600") {
			t.Error("New:", err)
		}
	})
}

func TestOneGatewayAFolder(t *testing.T) {
	dir := newState(t)
	start(t, dir)
	if _, err := New(config(dir)); err == nil || !strings.Contains(err.Error(), "another adit") || !strings.Contains(err.Error(), "--state") {
		t.Error("New:", err)
	}
}

// A disk that takes nothing: what is live goes on, what is owned may be had,
// and a new name is refused with a sentence.
func TestStateThatCannotBeWritten(t *testing.T) {
	g := start(t, newState(t))
	ann := g.login("ann")
	ann.forward("blog", 80)
	g.served("blog", "ann")
	g.state.ledger.db.Close() // every write fails from here on

	g.served("blog", "ann")
	bob := g.login("bob")
	if _, ok := bob.forward("fresh", 80); !ok {
		t.Fatal("refused before it is known that it cannot be stored")
	}
	if code, message := bob.why(); code != "store" || !strings.Contains(message, "could not write") {
		t.Error(code, message)
	}
	if status, _ := g.get("fresh"); status != 404 {
		t.Error("status", status)
	}
	if _, ok := g.login("ann2").forward("blog", 80); !ok {
		t.Error("an owned name is refused")
	}
	g.served("blog", "ann2")
}

// What is put while the unused is being forgotten stays.
func TestPutWhileOthersExpire(t *testing.T) {
	path := filepath.Join(t.TempDir(), "adit.db")
	l, err := openLedger(path)
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	put := func(user string, used time.Time) {
		if err := l.put(bucketNames, "blog", record{User: user, Used: used}); err != nil {
			t.Fatal(err)
		}
	}
	put("ann", now.Add(-time.Hour))
	l.before = func() { l.before = nil; put("bob", now) }
	if err := l.expire(now, time.Minute); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if r, ok := l.owner(bucketNames, "blog", now, time.Minute); !ok || r.User != "bob" {
			t.Errorf("owned by %q", r.User)
		}
		if err := l.close(); err != nil {
			t.Fatal(err)
		}
		if l, err = openLedger(path); err != nil {
			t.Fatal(err)
		}
	}
	l.close()
}

// A database that is cut short or has been overwritten is said to be damaged,
// by serve and by check, and neither crashes: it is read where it is mapped.
func TestDamagedLedger(t *testing.T) {
	whole := filepath.Join(t.TempDir(), "adit.db")
	l, err := openLedger(whole)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 200 { // several pages, and some free ones
		if err := l.put(bucketNames, fmt.Sprint("name", i), record{User: "ann", Used: time.Now()}); err != nil {
			t.Fatal(err)
		}
	}
	l.close()
	data, err := os.ReadFile(whole)
	if err != nil {
		t.Fatal(err)
	}
	page := os.Getpagesize()
	copied := func(data []byte) string { // bbolt keeps the lock of one in which it has panicked
		path := filepath.Join(t.TempDir(), "adit.db")
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	for at := page; at < len(data); at += page {
		spoilt := slices.Clone(data)
		clear(spoilt[at : at+page])
		for what, data := range map[string][]byte{"cut": data[:at], "overwritten": spoilt} {
			said := readLedger(copied(data))
			l, err := openLedger(copied(data))
			if err == nil {
				l.close()
			}
			if said != nil && !errors.Is(said, errDamaged) || err != nil && !errors.Is(err, errDamaged) || said == nil && err != nil {
				t.Errorf("%s at %d: check says %v, serve %v", what, at, said, err)
			}
		}
	}
}
