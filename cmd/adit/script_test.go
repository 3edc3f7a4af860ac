//go:build unix

package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"go.uber.org/goleak"
)

// The scripts in testdata/script are the promises to users, and the stories of
// bugs. They run the real program and the real ssh. Beside testscript's own
// commands (https://pkg.go.dev/github.com/rogpeppe/go-internal/testscript)
// they have:
//
//	need PROGRAM...             skip the script where a program is missing; in CI, fail it
//	key NAME [ssh-keygen args]  make the key pair NAME, NAME.pub (ed25519 unless told);
//	                            $FP_NAME is its fingerprint. The first is the one ssh uses
//	user NAME [KEY]             make a key pair as above and add it: adit keys add NAME KEY.pub
//	adit ARGS...                the program, in the foreground
//	exits N COMMAND ARGS...     run adit, ssh, get, send, ws or a program; it must end with status N
//
//	gateway [args]              start adit serve in the background, wait until it is healthy.
//	                            "! gateway" wants it not to start. Its output is gateway.log
//	gateway -signal SIGNAL      send it a signal
//	gateway -stop [SIGNAL]      send SIGTERM or SIGNAL, wait, want status 0
//	gateway -ends N             wait until it ends by itself with status N
//	gateway -kill               SIGKILL, as a power cut
//	baseline                    note the gateway's goroutines and descriptors
//	settled                     wait until they are back at the baseline
//
//	ssh [-key KEY] ARGS...      ssh in the foreground; "gw" is the gateway
//	tunnel NAME [-key KEY] ARGS...  ssh in the background: NAME.out, NAME.err
//	typed NAME [-key KEY] ARGS...  a tunnel whose user can type
//	type NAME TEXT              what they type; \x03 is Ctrl-C
//	ends NAME N                 wait until tunnel NAME has ended with status N
//	signal NAME SIGNAL          send SIGNAL to tunnel NAME and go on
//	hangup NAME [SIGNAL]        send SIGINT (Ctrl-C) or SIGNAL to tunnel NAME, wait for its end
//
//	web NAME TEXT               a local web service; see service_test.go for its paths
//	echo NAME                   a local TCP service that sends back what it gets
//	origin NAME HOST TEXT       a local web service that speaks TLS; NAME.crt is its certificate
//	ca [-eab KID:KEY] [-dns HOST:PORT] [-life SECONDS]
//	                            an ACME CA and a name server (or the one at -dns); $CA_URL, $CA_ROOT
//	                            and $DNS say where. $CACERT becomes its root. With -eab only who has
//	                            that account gets anything. Again: the CA has another root
//	orders N [NAME]             the CA must have taken N orders, for NAME
//	killed N HOST [args]        start the gateway N times, each time SIGKILL at another step of
//	                            its order for HOST; what it stored must be whole
//	strangers N DOMAIN          N handshakes for names below DOMAIN, and elsewhere, that nobody
//	                            has: each must end with the alert unrecognized_name
//	full DIR                    make a folder in which nothing can be written
//	room DIR                    let it take files again
//	bind ZONE                   BIND for a zone, at $BIND; $BIND_KEY may change _acme-challenge there
//	txt NAME [TEXT]             what that name server says of NAME; nothing without TEXT. It
//	                            says the names of the files in $WORK/txt/NAME./, too
//	down NAME                   end a local service; "web NAME" opens it again on its port
//
//	get HOST PATH [curl args]   what a visitor gets: head and body, on the gateway's HTTP port
//	gets HOST PATH [curl args]  the same by https, on $HTTPS_PORT, trusting $CACERT alone
//	h3 HOST PATH                the same by HTTP/3
//	browser URL [SCRIPT]        what Chromium makes of a page: a line for each answer (protocol,
//	                            status, security, URL) and each complaint, the page's text, and
//	                            what the promise of SCRIPT, in JavaScript, comes to
//	send PORT TEXT              send TEXT to a TCP port, half-close, print the answer
//	whole PORT STREAMS MOST     so many connections at once to a service that echoes, of up to MOST
//	                            bytes each; every byte must come back
//	visits PORT HOST N          N requests, most of them on kept connections; each must be answered
//	crowd PORT N                as many connections as there can be, up to N, which say nothing
//	ws HOST PATH TEXT           send TEXT over a WebSocket, print the answer
//	gossh PORT KEY TO BIND...   a program that forwards by x/crypto's ssh: each
//	                            BIND (NAME:PORT) of the gateway goes to the address TO
//
//	wait-line FILE REGEXP       wait until FILE has it; (?P<X>...) groups become $X
//	until REGEXP COMMAND ARGS   repeat get, ssh or a program until its output has it
//
// and these variables: $PORT_NAME of a service; $GATEWAY_PID; $SSH_PORT, $HTTP_PORT,
// $HTTPS_PORT (closed unless told) and $ADMIN_PORT of the gateway; $TCP_LO to $TCP_HI its TCP ports. $ADIT_STATE is
// $WORK/state. Waiting is polling, up to patienceLimit. At the end of each
// script tunnels and gateway are stopped, and a gateway that raced, panicked
// or did not end with status 0 fails the script.

// patienceLimit bounds each wait. It is long because it is only ever reached
// by a failure, and a busy machine is none.
const patienceLimit = 30 * time.Second

func TestMain(m *testing.M) {
	testscript.Main(leakChecked{m}, map[string]func(){"adit": main, "send": sendMain, "whole": wholeMain, "visits": visitsMain, "crowd": crowdMain, "ws": wsMain, "h3": h3Main, "browser": browserMain, "gossh": gosshMain})
}

// leakChecked fails a run that leaves goroutines behind.
type leakChecked struct{ *testing.M }

// Run runs the tests and looks for leaks if they passed.
func (m leakChecked) Run() int {
	os.Setenv("PEBBLE_VA_NOSLEEP", "1") // read by the CA of the scripts
	os.Setenv("PEBBLE_WFE_NONCEREJECT", "0")
	if status := m.M.Run(); status != 0 {
		return status
	}
	// What the CA of the scripts starts and never ends.
	err := goleak.Find(goleak.IgnoreAnyFunction("github.com/letsencrypt/pebble/v2/va.VAImpl.processTasks"),
		goleak.IgnoreAnyFunction("github.com/letsencrypt/pebble/v2/va.(*VAImpl).processTasks"))
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                filepath.Join("..", "..", "testdata", "script"),
		Setup:              setup,
		RequireUniqueNames: true,
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"need": need, "key": key, "user": addUser, "exits": exits,
			"gateway": gatewayCmd, "baseline": baseline, "settled": settled,
			"ssh": sshCmd, "tunnel": tunnel, "ends": ends, "hangup": hangup,
			"typed": typed, "type": typeText, "signal": signalCmd,
			"web": web, "echo": echo, "down": down, "get": get,
			"gets": gets, "origin": originCmd, "ca": caCmd, "orders": ordersCmd, "killed": killedCmd, "strangers": strangersCmd,
			"full": fullCmd, "room": roomCmd, "txt": txtCmd, "bind": bindCmd,
			"wait-line": waitLine, "until": until,
		},
	})
}

// rig is what one script has running.
type rig struct {
	t        testscript.T
	work     string
	gateway  *process
	tunnels  map[string]*process
	services map[string]*service
	key      string // what ssh uses unless told
	before   usage  // as baseline noted it
}

type rigKey struct{}

func rigOf(ts *testscript.TestScript) *rig { return ts.Value(rigKey{}).(*rig) }

// setup gives a script its ports, its home folder and its ssh configuration.
func setup(env *testscript.Env) error {
	r := &rig{t: env.T(), work: env.WorkDir, tunnels: map[string]*process{}, services: map[string]*service{}}
	env.Values[rigKey{}] = r
	first, release, err := claimPorts()
	if err != nil {
		return err
	}
	env.Defer(func() { defer release(); r.end() })
	home := filepath.Join(env.WorkDir, "home")
	for name, value := range map[string]string{
		"GORACE": "atexit_sleep_ms=20 " + os.Getenv("GORACE"), // not a second for each adit
		"HOME":   home, "ADIT_STATE": filepath.Join(env.WorkDir, "state"),
		"SSH_PORT": fmt.Sprint(first), "HTTP_PORT": fmt.Sprint(first + 1), "ADMIN_PORT": fmt.Sprint(first + 2),
		"TCP_LO": fmt.Sprint(first + 3), "TCP_HI": fmt.Sprint(first + portBlock - 2), "HTTPS_PORT": fmt.Sprint(first + portBlock - 1),
	} {
		env.Setenv(name, value)
	}
	env.Setenv("CACERT", filepath.Join(env.WorkDir, "state", "internal-ca", "root.crt"))
	if err := os.Mkdir(home, 0o700); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(env.WorkDir, "ssh_config"), sshConfig(env.WorkDir, first), 0o600)
}

// sshConfig is how ssh reaches the gateway of this script, and nothing of the
// machine's own configuration. ssh hands the file on to the ssh that -J runs.
func sshConfig(work string, port int) []byte {
	return fmt.Appendf(nil, `Host gw
	HostName 127.0.0.1
	Port %d
Host *
	IdentitiesOnly yes
	IdentityAgent none
	PasswordAuthentication no
	StrictHostKeyChecking no
	UserKnownHostsFile %s
	GlobalKnownHostsFile /dev/null
	ConnectTimeout 20
`, port, filepath.Join(work, "known_hosts"))
}

// end stops what the script left running: the people first, then the gateway,
// then the services.
func (r *rig) end() {
	for _, p := range r.tunnels {
		p.kill()
	}
	var err error
	if r.gateway != nil {
		err = r.gateway.stop(os.Interrupt, 0)
	}
	for _, s := range r.services {
		s.close()
	}
	if err != nil {
		r.t.Log(err.Error())
		r.t.FailNow()
	}
}

// need skips a script that cannot run on this machine.
func need(ts *testscript.TestScript, neg bool, args []string) {
	for _, program := range args {
		if _, err := exec.LookPath(program); err == nil {
			continue
		}
		if os.Getenv("CI") == "true" {
			ts.Fatalf("%s is not installed", program)
		}
		rigOf(ts).t.Skip(program + " is not installed: scripts/deps says which package has it")
	}
}

// key makes a key pair.
func key(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) == 0 {
		ts.Fatalf("usage: key NAME [ssh-keygen args]")
	}
	makeKey(ts, args[0], args[1:])
}

func makeKey(ts *testscript.TestScript, name string, args []string) {
	need(ts, false, []string{"ssh", "ssh-keygen", "curl"})
	if len(args) == 0 {
		args = []string{"-t", "ed25519"}
	}
	args = append(args, "-q", "-N", "", "-C", name, "-f", ts.MkAbs(name))
	ts.Check(ts.Exec("ssh-keygen", args...))
	ts.Check(ts.Exec("ssh-keygen", "-l", "-f", ts.MkAbs(name+".pub")))
	ts.Setenv("FP_"+name, strings.Fields(ts.ReadFile("stdout"))[1])
	if r := rigOf(ts); r.key == "" {
		r.key = ts.MkAbs(name)
	}
}

// addUser makes a user with a key of their own.
func addUser(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) == 0 || len(args) > 2 {
		ts.Fatalf("usage: user NAME [KEY]")
	}
	name, keyName := args[0], args[len(args)-1]
	if _, err := os.Stat(ts.MkAbs(keyName)); err != nil {
		makeKey(ts, keyName, nil)
	}
	ts.Check(ts.Exec("adit", "keys", "add", name, ts.MkAbs(keyName+".pub")))
}
