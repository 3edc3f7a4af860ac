package gateway

// advise logs, once at the start, what nothing fails of and an operator will want
// to know all the same.
func (g *Gateway) advise() {
	if len(g.cfg.idle) > 0 {
		var flags []string
		for _, i := range g.cfg.idle {
			flags = append(flags, i.flag)
		}
		g.log.Warn("settings: some have no effect beside the others; adit check says why", "settings", flags)
	}
}
