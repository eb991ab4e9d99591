// Package smtptest has mail servers for tests: aiosmtpd, which other people wrote, and a peer that misbehaves by a script.
//
// It promises that none of them outlives its test, and that they listen on this machine alone.
package smtptest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"testing"
	"time"

	"github.com/holdfast-backup/holdfast/internal/clock"
)

// Password is that of the account holdfast.
const Password = "s3cret of the account"

// Identity is a certificate with its key, and the pool that trusts it.
type Identity struct {
	certificate, key []byte // PEM
	pair             tls.Certificate
	Roots            *x509.CertPool
}

// NewIdentity makes one for some names and addresses.
func NewIdentity(t testing.TB, names ...string) Identity {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	now := clock.System{}.Now()
	template := x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"}, NotBefore: now.Add(-time.Hour), NotAfter: now.Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature, DNSNames: names,
	}
	for _, name := range names {
		if ip := net.ParseIP(name); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		}
	}
	raw, err := x509.CreateCertificate(rand.Reader, &template, &template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	encoded, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	id := Identity{
		certificate: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: raw}), key: pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: encoded}), Roots: x509.NewCertPool(),
	}
	if id.pair, err = tls.X509KeyPair(id.certificate, id.key); err != nil || !id.Roots.AppendCertsFromPEM(id.certificate) {
		t.Fatal(err)
	}
	return id
}
