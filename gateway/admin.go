package gateway

import (
	"io"
	"net/http"
	"net/http/pprof"

	"adit/acme"
	"adit/vhost"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// metrics are the gateway's Prometheus metrics, each with its registry, so
// that several gateways can live in one process.
type metrics struct {
	registry    *prometheus.Registry
	conns       prometheus.Gauge
	dropped     prometheus.Counter
	tunnels     *prometheus.GaugeVec
	refused     *prometheus.CounterVec
	tcpVisitors prometheus.Gauge
	bytes       *prometheus.CounterVec

	// The hot ones, resolved once: an increment is one atomic addition.
	requests        [6]prometheus.Counter // by the status's first digit
	httpIn, httpOut prometheus.Counter
	tcpIn, tcpOut   prometheus.Counter
}

func newMetrics() *metrics {
	m := &metrics{
		registry:    prometheus.NewRegistry(),
		conns:       prometheus.NewGauge(prometheus.GaugeOpts{Name: "adit_ssh_connections", Help: "Authenticated SSH connections."}),
		dropped:     prometheus.NewCounter(prometheus.CounterOpts{Name: "adit_ssh_handshakes_dropped_total", Help: "SSH connections that were cut because too many were in their handshake."}),
		tunnels:     prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "adit_tunnels", Help: "Live tunnels."}, []string{"kind"}),
		refused:     prometheus.NewCounterVec(prometheus.CounterOpts{Name: "adit_tunnels_refused_total", Help: "Forwards that were refused."}, []string{"code"}),
		tcpVisitors: prometheus.NewGauge(prometheus.GaugeOpts{Name: "adit_tcp_visitors", Help: "Open connections of visitors of TCP tunnels."}),
		bytes:       prometheus.NewCounterVec(prometheus.CounterOpts{Name: "adit_bytes_total", Help: "Content bytes relayed; in is from visitors."}, []string{"kind", "direction"}),
	}
	requests := prometheus.NewCounterVec(prometheus.CounterOpts{Name: "adit_http_requests_total", Help: "Requests relayed to tunnels, by the status's first digit."}, []string{"class"})
	for i := range m.requests {
		m.requests[i] = requests.WithLabelValues([]string{"other", "1xx", "2xx", "3xx", "4xx", "5xx"}[i])
	}
	m.httpIn, m.httpOut = m.bytes.WithLabelValues(kindHTTP, "in"), m.bytes.WithLabelValues(kindHTTP, "out")
	m.tcpIn, m.tcpOut = m.bytes.WithLabelValues(kindTCP, "in"), m.bytes.WithLabelValues(kindTCP, "out")
	m.registry.MustRegister(m.conns, m.dropped, m.tunnels, m.refused, m.tcpVisitors, m.bytes, requests,
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

// certStats are the metrics of the certificates, read when they are asked for.
type certStats struct{ stats func() acme.Stats }

var (
	descCerts   = prometheus.NewDesc("adit_certificates", "Certificates in memory.", nil, nil)
	descExpiry  = prometheus.NewDesc("adit_certificate_expiry_timestamp_seconds", "When the first certificate in use ends; absent without one.", nil, nil)
	descOrders  = prometheus.NewDesc("adit_certificate_orders_total", "Orders begun at the ACME CA, renewals too.", nil, nil)
	descFailed  = prometheus.NewDesc("adit_certificate_orders_failed_total", "Orders that failed.", nil, nil)
	descWaiting = prometheus.NewDesc("adit_certificate_over_budget_total", "How often a new name had to wait for the day's budget.", nil, nil)
	descUnsaved = prometheus.NewDesc("adit_certificate_files_unsaved", "Files of certificates that the disk did not take and that are kept in memory.", nil, nil)
)

// Describe implements prometheus.Collector.
func (c certStats) Describe(to chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{descCerts, descExpiry, descOrders, descFailed, descWaiting, descUnsaved} {
		to <- d
	}
}

// Collect implements prometheus.Collector.
func (c certStats) Collect(to chan<- prometheus.Metric) {
	s := c.stats()
	send := func(d *prometheus.Desc, kind prometheus.ValueType, value float64) {
		to <- prometheus.MustNewConstMetric(d, kind, value)
	}
	send(descCerts, prometheus.GaugeValue, float64(s.Held))
	if !s.Expiry.IsZero() {
		send(descExpiry, prometheus.GaugeValue, float64(s.Expiry.Unix()))
	}
	send(descOrders, prometheus.CounterValue, float64(s.Orders))
	send(descFailed, prometheus.CounterValue, float64(s.Failed))
	send(descWaiting, prometheus.CounterValue, float64(s.Waiting))
	send(descUnsaved, prometheus.GaugeValue, float64(s.Unsaved))
}

// request counts one exchange.
func (m *metrics) request(x *vhost.Exchange) {
	class := x.Status / 100
	if class < 1 || class > 5 {
		class = 0
	}
	m.requests[class].Inc()
	if x.BytesIn > 0 {
		m.httpIn.Add(float64(x.BytesIn))
	}
	if x.BytesOut > 0 {
		m.httpOut.Add(float64(x.BytesOut))
	}
}

// adminHandler serves the operator: never a visitor, so it has a listener of
// its own.
func (g *Gateway) adminHandler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("/healthz", g.healthz)
	mux.Handle("/metrics", promhttp.HandlerFor(g.metrics.registry, promhttp.HandlerOpts{}))
	mux.HandleFunc("/debug/pprof/", pprof.Index)
	mux.HandleFunc("/debug/pprof/cmdline", pprof.Cmdline)
	mux.HandleFunc("/debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("/debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("/debug/pprof/trace", pprof.Trace)
	return mux
}

// healthz is 200 while the gateway serves and 503 while it drains.
func (g *Gateway) healthz(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	if g.stopping() {
		w.WriteHeader(http.StatusServiceUnavailable)
		io.WriteString(w, "draining\n")
		return
	}
	io.WriteString(w, "ok\n")
}
