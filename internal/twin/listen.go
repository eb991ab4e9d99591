package twin

import (
	"cmp"
	"crypto/tls"
	"net"
	"path/filepath"

	"github.com/holdfast-backup/holdfast/internal/twin/control"
	"github.com/holdfast-backup/holdfast/internal/twin/keyvault"
	"github.com/holdfast-backup/holdfast/internal/twin/loopback"
)

// listening is the twin's two ports.
type listening struct {
	management net.Listener // TLS
	split      *loopback.Splitter
	secureData net.Listener // TLS over the split's secure half
	armAddr    string
	dataAddr   string
}

// listen opens both ports, those of the last start unless the Config says otherwise, and keeps them in the identity.
func listen(config Config, i *identity) (*listening, error) {
	certificate, err := loopback.Certificate(config.Dir)
	if err != nil {
		return nil, err
	}
	management, err := loopback.Listen("arm", cmp.Or(config.ARMAddr, i.ARMAddr, "127.0.0.1:0"))
	if err != nil {
		return nil, err
	}
	data, err := loopback.Listen("data", cmp.Or(config.DataAddr, i.DataAddr, "127.0.0.1:0"))
	if err != nil {
		_ = management.Close()
		return nil, err
	}
	split := loopback.NewSplitter(data)
	l := &listening{
		management: tls.NewListener(management, tlsConfig(certificate, "h2", "http/1.1")), split: split,
		// Storage speaks HTTP/1.1 only, on the platform too.
		secureData: tls.NewListener(split.Secure(), tlsConfig(certificate, "http/1.1")),
		armAddr:    management.Addr().String(), dataAddr: data.Addr().String(),
	}
	i.ARMAddr, i.DataAddr = l.armAddr, l.dataAddr
	if err := i.save(); err != nil {
		l.close()
		return nil, err
	}
	return l, nil
}

func tlsConfig(certificate tls.Certificate, protocols ...string) *tls.Config {
	return &tls.Config{Certificates: []tls.Certificate{certificate}, MinVersion: tls.VersionTLS12, NextProtos: protocols}
}

func (l *listening) endpoints(dir string) Endpoints {
	return Endpoints{
		ResourceManager: "https://" + l.armAddr, Data: "https://" + l.dataAddr, DataPlain: "http://" + l.dataAddr,
		Blob: "https://" + l.dataAddr + "/{account}", KeyVault: "https://" + l.armAddr + keyvault.Prefix + "{vault}", AzureFile: filepath.Join(dir, AzureFile), CAFile: filepath.Join(dir, control.CAFile),
	}
}

func (l *listening) close() {
	_ = l.management.Close() // closing a listener twice is harmless
	_ = l.split.Close()
}
