package gateway

import (
	"os"
	accounts "os/user"
	"strconv"
)

// advise logs, once at the start, what nothing fails of and an operator will want
// to know all the same.
func (g *Gateway) advise(dir string) {
	if len(g.cfg.idle) > 0 {
		var flags []string
		for _, i := range g.cfg.idle {
			flags = append(flags, i.flag)
		}
		g.log.Warn("settings: some have no effect beside the others; adit check says why", "settings", flags)
	}
	owner, foreign := foreignOwner(dir)
	switch {
	case foreign:
		g.log.Warn("root: the state folder belongs to another account, which cannot read what root makes in it; run adit as that account", "folder", dir, "owner", owner)
	case os.Geteuid() == 0 && !g.cfg.local:
		g.log.Info("root: adit need not be; the systemd unit of docs/operators.md shows how it has ports below 1024 all the same")
	}
}

// foreignOwner is whose dir is, if it is another's and root is at work: only root
// can make files in it that its owner then cannot read.
func foreignOwner(dir string) (name string, foreign bool) {
	info, err := os.Stat(dir)
	if err != nil || os.Geteuid() != 0 {
		return "", false
	}
	uid, ok := ownerOf(info)
	if !ok || uid == 0 {
		return "", false
	}
	name = strconv.Itoa(uid)
	if account, err := accounts.LookupId(name); err == nil {
		name = account.Username
	}
	return name, true
}
