package supervisor

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"math/big"
	"time"
)

// Roles of the two certificates of a serve: each side names itself by "role.id" and expects the other role.
const (
	roleDaemon = "daemon"
	roleClient = "client"
)

// identity is what one side needs for mutual TLS: the authority of this serve and a certificate by it.
type identity struct {
	// id is random, of one serve.
	id   string
	ca   *x509.CertPool
	cert tls.Certificate
	role string
}

// pemIdentity is the client's part as it stands in edge.json.
type pemIdentity struct {
	CA   string `json:"ca"`
	Cert string `json:"cert"`
	Key  string `json:"key"`
}

// newAuthority makes the certificates of one serve. The authority's key is forgotten at once: no third certificate can be
// made. They outlive any serve, so that a daemon that runs for years, or a clock set wrong, locks nobody out.
func newAuthority(now time.Time) (daemon identity, client pemIdentity, id string, err error) {
	raw := make([]byte, 16)
	if _, err = rand.Read(raw); err != nil {
		return
	}
	id = hex.EncodeToString(raw)
	from, until := now.AddDate(-1, 0, 0), now.AddDate(20, 0, 0)
	caPub, caKey, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return
	}
	ca := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "rdd " + id}, NotBefore: from, NotAfter: until,
		IsCA: true, BasicConstraintsValid: true, MaxPathLenZero: true, KeyUsage: x509.KeyUsageCertSign,
	}
	caDER, err := x509.CreateCertificate(rand.Reader, ca, ca, caPub, caKey)
	if err != nil {
		return
	}
	leaf := func(serial int64, role string) (der []byte, key ed25519.PrivateKey, err error) {
		pub, key, err := ed25519.GenerateKey(rand.Reader)
		if err != nil {
			return nil, nil, err
		}
		name := role + "." + id
		der, err = x509.CreateCertificate(rand.Reader, &x509.Certificate{
			SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: name}, DNSNames: []string{name},
			NotBefore: from, NotAfter: until, KeyUsage: x509.KeyUsageDigitalSignature, BasicConstraintsValid: true,
			ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		}, ca, pub, caKey)
		return der, key, err
	}
	daemonDER, daemonKey, err := leaf(2, roleDaemon)
	if err != nil {
		return
	}
	clientDER, clientKey, err := leaf(3, roleClient)
	if err != nil {
		return
	}
	clientPKCS8, err := x509.MarshalPKCS8PrivateKey(clientKey)
	if err != nil {
		return
	}
	parsed, err := x509.ParseCertificate(caDER)
	if err != nil {
		return
	}
	pool := x509.NewCertPool()
	pool.AddCert(parsed)
	daemon = identity{id: id, ca: pool, role: roleDaemon,
		cert: tls.Certificate{Certificate: [][]byte{daemonDER}, PrivateKey: daemonKey}}
	client = pemIdentity{
		CA:   string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: caDER})),
		Cert: string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: clientDER})),
		Key:  string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: clientPKCS8})),
	}
	return daemon, client, id, nil
}

func (p pemIdentity) parse(id string) (identity, error) {
	c := identity{id: id, ca: x509.NewCertPool(), role: roleClient}
	if !c.ca.AppendCertsFromPEM([]byte(p.CA)) {
		return c, errors.New("no certificate of an authority")
	}
	cert, err := tls.X509KeyPair([]byte(p.Cert), []byte(p.Key))
	c.cert = cert
	return c, err
}

func (c identity) peer() string {
	if c.role == roleDaemon {
		return roleClient + "." + c.id
	}
	return roleDaemon + "." + c.id
}

// dialConfig is for connections this side opens: the peer must be the other role of the same serve.
func (c identity) dialConfig() *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS13, NextProtos: []string{"h2"},
		RootCAs: c.ca, ServerName: c.peer(), Certificates: []tls.Certificate{c.cert},
	}
}

// acceptConfig is for connections this side accepts, with the same demand.
func (c identity) acceptConfig() *tls.Config {
	peer := c.peer()
	return &tls.Config{
		MinVersion: tls.VersionTLS13, NextProtos: []string{"h2"},
		ClientCAs: c.ca, ClientAuth: tls.RequireAndVerifyClientCert, Certificates: []tls.Certificate{c.cert},
		SessionTicketsDisabled: true,
		VerifyConnection: func(s tls.ConnectionState) error {
			return s.PeerCertificates[0].VerifyHostname(peer)
		},
	}
}
