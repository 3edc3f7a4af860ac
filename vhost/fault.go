package vhost

// fault is a message that is refused: the status that a visitor gets for its
// own, and a few words for the log. In a response of the service the status
// has no meaning: every fault there is a 502.
type fault struct {
	status int
	text   string
}

func (f *fault) Error() string { return f.text }

// The faults of messages. They are values, so that refusing costs nothing.
var (
	faultBareLF     = &fault{400, "line feed without carriage return"}
	faultFold       = &fault{400, "folded field line"}
	faultField      = &fault{400, "malformed field line"}
	faultValue      = &fault{400, "control character in a field value"}
	faultLength     = &fault{400, "malformed or repeated Content-Length"}
	faultTransfer   = &fault{400, "Transfer-Encoding is not one final chunked"}
	faultOptions    = &fault{400, "too many Connection options"}
	faultBoth       = &fault{400, "Content-Length with Transfer-Encoding"}
	faultChunk      = &fault{400, "malformed chunk"}
	faultTrailer    = &fault{400, "malformed or oversized trailer section"}
	faultLine       = &fault{400, "malformed request line"}
	faultTarget     = &fault{400, "malformed request target"}
	faultHost       = &fault{400, "missing, repeated or malformed Host"}
	faultAuthority  = &fault{400, "request target and Host differ"}
	faultMethod     = &fault{405, "method is not relayed"}
	faultUnknown    = &fault{501, "unknown method"}
	faultVersion    = &fault{505, "HTTP version is not 1.0 or 1.1"}
	faultLongTarget = &fault{414, "request target too long"}
	faultLongHead   = &fault{431, "head too long or too many fields"}
	faultExpect     = &fault{417, "unknown expectation"}
	faultHopField   = &fault{400, "connection-specific field"}
	faultSlowHead   = &fault{408, "head took too long"}

	faultStatusLine = &fault{502, "malformed status line"}
	faultSwitch     = &fault{502, "101 that was not asked for"}
	faultInterim    = &fault{502, "too many interim responses"}
	faultEarly      = &fault{502, "connection ended inside a response"}
)
