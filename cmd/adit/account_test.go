package main

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
)

// TestStateDir: where the state folder is when nobody says depends on the
// preset.
func TestStateDir(t *testing.T) {
	t.Setenv("STATE_DIRECTORY", "/var/lib/unit")
	t.Setenv("XDG_STATE_HOME", "/s")
	for _, tt := range []struct {
		settings settings
		want     string
	}{
		{settings{State: "/x", Domain: "gw.test"}, "/x"},
		{settings{}, "/s/adit"},
		{settings{Domain: "gw.test"}, "/var/lib/unit"},
	} {
		if got, err := tt.settings.stateDir(); got != tt.want || err != nil {
			t.Errorf("%+v: %q, %v, want %q", tt.settings, got, err, tt.want)
		}
	}
}

// TestUsersState: root edits the users of the machine's own gateway without
// naming its folder, unless the account has a gateway of its own.
func TestUsersState(t *testing.T) {
	system, own := t.TempDir(), t.TempDir()
	t.Setenv("STATE_DIRECTORY", system)
	t.Setenv("XDG_STATE_HOME", own)
	want := func(what string, s settings, dir string) {
		if got, err := s.usersState(); got != dir || err != nil {
			t.Errorf("%s: %q, %v, want %q", what, got, err, dir)
		}
	}
	want("only the machine's", settings{}, system)
	want("--state", settings{State: "/x"}, "/x")
	if err := os.Mkdir(filepath.Join(own, "adit"), 0o700); err != nil {
		t.Fatal(err)
	}
	want("both", settings{}, filepath.Join(own, "adit"))
	want("--domain", settings{Domain: "gw.test"}, system)
}

// TestUserName: an account's name becomes one that a user may have.
func TestUserName(t *testing.T) {
	for account, want := range map[string]string{
		"ann": "ann", "Ann.Lee": "annlee", `CORP\Ann`: "ann", "_www": "www", "ann@corp.test": "anncorptest",
		"": "local", "日本": "local", "svc$": "svc",
	} {
		if got := userName(account); got != want || !userGrammar.MatchString(got) {
			t.Errorf("%q: %q, want %q", account, got, want)
		}
	}
}

// TestPublicKeys: the keys that ssh offers by itself, whether they are there
// yet or not.
func TestPublicKeys(t *testing.T) {
	if got := publicKeys("/home/ann"); !slices.Equal(got, []string{filepath.Join("/home/ann", ".ssh", "id_*.pub")}) {
		t.Errorf("got %q", got)
	}
	if got := publicKeys(""); got != nil {
		t.Errorf("no home: %q", got)
	}
}

// TestLocalAccount: only the local preset lets the account's own keys in.
func TestLocalAccount(t *testing.T) {
	env := map[string]string{"HOME": t.TempDir()}
	local, err := (&settings{}).gatewayConfig(env)
	if err != nil || len(local.KeyFiles) != 1 || local.KeyUser == "" {
		t.Errorf("local: %q of %q, %v", local.KeyFiles, local.KeyUser, err)
	}
	public, err := (&settings{Domain: "gw.test"}).gatewayConfig(env)
	if err != nil || public.KeyFiles != nil || public.KeyUser != "" {
		t.Errorf("public: %q of %q, %v", public.KeyFiles, public.KeyUser, err)
	}
}
