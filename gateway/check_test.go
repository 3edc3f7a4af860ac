package gateway

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// TestClockOfCA: a clock that is another one than the CA's is told, either way,
// and what an answer's way and a second of grain make of it is not.
func TestClockOfCA(t *testing.T) {
	for ahead, want := range map[time.Duration]string{
		2 * time.Hour: "warn  clock: ", -6 * time.Minute: "warn  clock: ", time.Minute: "ok    clock: ",
	} {
		ca := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Date", time.Now().Add(ahead).UTC().Format(http.TimeFormat))
			w.Write([]byte("{}"))
		}))
		defer ca.Close()
		cfg := config(t.TempDir())
		cfg.Domain, cfg.HTTPS, cfg.TLS, cfg.ACME.CA = "gw.test", "127.0.0.1:0", "acme", ca.URL
		var out strings.Builder
		Check(t.Context(), cfg, &out)
		if !strings.Contains(out.String(), want) {
			t.Errorf("%v ahead, %q is not in:\n%s", ahead, want, out.String())
		}
	}
}
