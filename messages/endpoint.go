package messages

// Endpoint is where a container engine listens: found by a VM driver, dialled by a Docker adapter.
type Endpoint struct {
	// Host is unix:///path, tcp://host:port or npipe:////./pipe/name.
	Host string `json:"host"`
	// Source says where the address came from, for people: "DOCKER_HOST", `context "desktop"`, "spec.virtualMachine.socket".
	Source string `json:"source,omitempty"`
	// TLS is set when the address is spoken to with TLS.
	TLS *EndpointTLS `json:"tls,omitempty"`
}

// EndpointTLS names the files of a TLS endpoint; an empty path is not used.
type EndpointTLS struct {
	CAFile     string `json:"caFile,omitempty"`
	CertFile   string `json:"certFile,omitempty"`
	KeyFile    string `json:"keyFile,omitempty"`
	SkipVerify bool   `json:"skipVerify,omitempty"`
}
