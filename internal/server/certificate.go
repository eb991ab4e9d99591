package server

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base32"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/holdfast-backup/holdfast"
)

// certificateYears is how long a certificate lasts that a server makes for itself.
const certificateYears = 10

// certificate reads the certificate that the configuration names, or the one that the server made for itself before, or makes that. made is the
// file of one that the server made.
func (s *Server) certificate() (certificate tls.Certificate, made string, err error) {
	cert, key := s.config.Certificate, s.config.Key
	if (cert == "") != (key == "") {
		return certificate, "", holdfast.Errorf(holdfast.KindInvalid, "a certificate needs its private key, and a key its certificate").WithField("tls-cert").WithHint("give both --tls-cert and --tls-key, or none")
	}
	if cert == "" {
		cert, key = filepath.Join(s.config.DataDir, "tls.crt"), filepath.Join(s.config.DataDir, "tls.key")
		made = cert
		if _, err := os.Stat(key); os.IsNotExist(err) {
			if err := makeCertificate(cert, key, s.config.Listen, s.config.Clock.Now()); err != nil {
				return certificate, "", err
			}
		}
	}
	certificate, err = tls.LoadX509KeyPair(cert, key)
	if err != nil {
		return certificate, "", holdfast.Wrap(holdfast.KindInvalid, err, "the certificate in %s cannot be used", cert).WithField("tls-cert").
			WithHint("give a certificate and its private key in PEM; to have the server make new ones, remove tls.crt and tls.key from its data folder")
	}
	return certificate, made, nil
}

// makeCertificate writes a certificate for the names of this machine, signed by itself.
func makeCertificate(cert, key, listen string, now time.Time) error {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	const serialBits = 127
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), serialBits))
	if err != nil {
		return err
	}
	template := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: "Holdfast server"}, NotBefore: now.Add(-time.Hour), NotAfter: now.AddDate(certificateYears, 0, 0),
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}, BasicConstraintsValid: true, IsCA: true,
	}
	nameHosts(template, listen)
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		return err
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		return err
	}
	if err := writeSecret(cert, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})); err != nil {
		return err
	}
	return writeSecret(key, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8})) // last: it says that both are there
}

// nameHosts adds the names and addresses by which the server may be reached.
func nameHosts(template *x509.Certificate, listen string) {
	template.DNSNames = []string{"localhost"}
	template.IPAddresses = []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback}
	if name, err := os.Hostname(); err == nil {
		template.DNSNames = append(template.DNSNames, name)
	}
	host, _, err := net.SplitHostPort(listen)
	if err != nil || host == "" {
		return
	}
	if ip := net.ParseIP(host); ip == nil {
		template.DNSNames = append(template.DNSNames, host)
	} else if !ip.IsUnspecified() {
		template.IPAddresses = append(template.IPAddresses, ip)
	}
}

// writeSecret writes a file that only its owner reads, whole or not at all.
func writeSecret(file string, data []byte) error {
	temporary := file + ".new"
	if err := os.WriteFile(temporary, data, 0o600); err != nil {
		return holdfast.Wrap(holdfast.KindUnavailable, err, "%s cannot be written", file).WithHint("make room, and let this user write to the folder")
	}
	if err := os.Rename(temporary, file); err != nil {
		return holdfast.Wrap(holdfast.KindUnavailable, err, "%s cannot be written", file)
	}
	return nil
}

// firstPassword returns the password in a file, which is made with a random one when it is not there: an earlier start may have died after it.
func firstPassword(file string) (string, error) {
	data, err := os.ReadFile(file)
	if err == nil {
		return strings.TrimSpace(string(data)), nil
	}
	const randomBytes = 20
	random := make([]byte, randomBytes)
	_, _ = rand.Read(random) // it never fails
	password := strings.ToLower(base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(random))
	return password, writeSecret(file, []byte(password+"\n"))
}
