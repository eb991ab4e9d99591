// Package loopback opens the twin's ports on this machine: TLS under a throw-away CA that a folder keeps for ever, and one
// port that speaks plain HTTP and TLS. It must never listen where other machines could connect.
package loopback

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"io/fs"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/clock"
	"github.com/holdfast-backup/holdfast/internal/twin/control"
)

const (
	caKeyFile = "ca-key.pem"
	caLife    = 10 * 365 * 24 * time.Hour
	leafLife  = 365 * 24 * time.Hour // a new one is made at every start
)

// Certificate returns a server certificate for loopback, signed by the folder's throw-away CA, which is made at the
// first start. Clients judge certificates by the machine's time, and so does this, whatever clock the twin runs on.
func Certificate(dir string) (tls.Certificate, error) {
	ca, caKey, err := loadCA(dir)
	if err != nil {
		return tls.Certificate{}, err
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, holdfast.Wrap(holdfast.KindInternal, err, "the twin's key cannot be made")
	}
	template := certificateTemplate("holdfast twin", leafLife)
	template.KeyUsage, template.ExtKeyUsage = x509.KeyUsageDigitalSignature, []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	// Below localhost are the names of storage accounts, for clients that want them in the host (RFC 6761: all of it is loopback).
	template.DNSNames, template.IPAddresses = []string{"localhost", "*.localhost"}, []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback}
	der, err := x509.CreateCertificate(rand.Reader, template, ca, key.Public(), caKey)
	if err != nil {
		return tls.Certificate{}, holdfast.Wrap(holdfast.KindInternal, err, "the twin's certificate cannot be made")
	}
	return tls.Certificate{Certificate: [][]byte{der, ca.Raw}, PrivateKey: key}, nil
}

func certificateTemplate(name string, life time.Duration) *x509.Certificate {
	now := clock.System{}.Now()
	serial := make([]byte, 16)
	_, _ = rand.Read(serial) // never fails: crypto/rand ends the process instead
	return &x509.Certificate{
		SerialNumber: new(big.Int).SetBytes(serial), Subject: pkix.Name{CommonName: name, Organization: []string{"Holdfast"}},
		NotBefore: now.Add(-24 * time.Hour), NotAfter: now.Add(life), BasicConstraintsValid: true,
	}
}

func loadCA(dir string) (*x509.Certificate, *ecdsa.PrivateKey, error) {
	keyText, err := os.ReadFile(filepath.Join(dir, caKeyFile))
	if errors.Is(err, fs.ErrNotExist) {
		return makeCA(dir)
	}
	if err != nil {
		return nil, nil, holdfast.Wrap(holdfast.KindUnavailable, err, "the twin's CA key cannot be read")
	}
	certificateText, err := os.ReadFile(filepath.Join(dir, control.CAFile))
	if errors.Is(err, fs.ErrNotExist) {
		return makeCA(dir) // the last start ended between the two files, before anybody could trust the CA
	}
	if err != nil {
		return nil, nil, holdfast.Wrap(holdfast.KindUnavailable, err, "the twin's CA cannot be read")
	}
	damaged := holdfast.Errorf(holdfast.KindCorrupt, "the twin's CA in %s is damaged", dir).
		WithHint("remove %s and %s; clients then have to trust the new %s", caKeyFile, control.CAFile, control.CAFile)
	keyBlock, _ := pem.Decode(keyText)
	certificateBlock, _ := pem.Decode(certificateText)
	if keyBlock == nil || certificateBlock == nil {
		return nil, nil, damaged
	}
	key, keyErr := x509.ParseECPrivateKey(keyBlock.Bytes)
	certificate, certificateErr := x509.ParseCertificate(certificateBlock.Bytes)
	if keyErr != nil || certificateErr != nil {
		return nil, nil, damaged
	}
	return certificate, key, nil
}

func makeCA(dir string) (*x509.Certificate, *ecdsa.PrivateKey, error) {
	failed := func(err error) (*x509.Certificate, *ecdsa.PrivateKey, error) {
		return nil, nil, holdfast.Wrap(holdfast.KindInternal, err, "the twin's CA cannot be made")
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return failed(err)
	}
	template := certificateTemplate("holdfast twin CA, trust it on this machine for tests only", caLife)
	template.IsCA, template.MaxPathLenZero, template.KeyUsage = true, true, x509.KeyUsageCertSign|x509.KeyUsageCRLSign
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return failed(err)
	}
	certificate, err := x509.ParseCertificate(der)
	if err != nil {
		return failed(err)
	}
	keyDER, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return failed(err)
	}
	keyText := pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: keyDER})
	if err := control.WritePrivately(filepath.Join(dir, caKeyFile), keyText); err != nil {
		return nil, nil, err
	}
	certificateText := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	return certificate, key, control.WritePrivately(filepath.Join(dir, control.CAFile), certificateText)
}
