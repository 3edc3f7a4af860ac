package main

import (
	"os"
	"os/user"
	"path/filepath"
	"strings"

	"adit/gateway"
)

// stateDir is the state folder: as set, else as the preset has it.
func (s *settings) stateDir() (string, error) {
	if s.State != "" {
		return string(s.State), nil
	}
	return gateway.DefaultState(s.Domain != "")
}

// usersState is the state folder whose users are edited. Where nothing says
// which, it is the one that is there: a machine's own gateway's when the
// account has none of its own, so that root types "adit keys add ann" and no
// more.
func (s *settings) usersState() (string, error) {
	local, err := s.stateDir()
	if err != nil || s.State != "" || s.Domain != "" {
		return local, err
	}
	system, err := gateway.DefaultState(true)
	if err == nil && !isFolder(local) && isFolder(system) {
		return system, nil
	}
	return local, nil
}

func isFolder(dir string) bool {
	info, err := os.Stat(dir)
	return err == nil && info.IsDir()
}

// home is the account's home folder, "" if it has none. $HOME wins.
func home(env map[string]string) string {
	if dir := env["HOME"]; dir != "" {
		return dir
	}
	if account, err := user.Current(); err == nil {
		return account.HomeDir
	}
	return ""
}

// publicKeys is the pattern of the public keys that ssh offers by itself from
// this home folder. Those that are made later count too.
func publicKeys(home string) []string {
	if home == "" {
		return nil
	}
	return []string{filepath.Join(home, ".ssh", "id_*.pub")}
}

// accountUser is the name of the user that the account's own keys belong to.
func accountUser() string {
	account, err := user.Current()
	if err != nil {
		return userName("")
	}
	return userName(account.Username)
}

// userName reduces an account's name to what a user may be called,
// [a-z0-9][a-z0-9_-]{0,63}. A Windows account's domain is left out.
func userName(account string) string {
	name := strings.ToLower(account[strings.LastIndexByte(account, '\\')+1:])
	name = strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= '0' && r <= '9' || r == '_' || r == '-' {
			return r
		}
		return -1
	}, name)
	name = strings.TrimLeft(name, "_-")
	if name == "" {
		return "local"
	}
	return name[:min(len(name), 64)]
}
