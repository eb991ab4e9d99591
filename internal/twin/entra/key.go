package entra

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"io/fs"
	"os"

	"github.com/holdfast-backup/holdfast"
)

const keyBits = 2048

// loadKey reads the signing key, or makes it when there is none. The file appears whole or not at all.
func loadKey(file string) (*rsa.PrivateKey, error) {
	data, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return makeKey(file)
	}
	if err != nil {
		return nil, holdfast.Wrap(holdfast.KindUnavailable, err, "the identity provider's key cannot be read")
	}
	block, _ := pem.Decode(data)
	if block == nil {
		return nil, holdfast.Errorf(holdfast.KindCorrupt, "%s holds no PEM block", file).WithHint("remove it; tokens given before will be refused")
	}
	key, err := x509.ParsePKCS1PrivateKey(block.Bytes)
	if err != nil {
		return nil, holdfast.Wrap(holdfast.KindCorrupt, err, "%s holds no RSA key", file).WithHint("remove it; tokens given before will be refused")
	}
	return key, nil
}

func makeKey(file string) (*rsa.PrivateKey, error) {
	key, err := rsa.GenerateKey(rand.Reader, keyBits)
	if err != nil {
		return nil, holdfast.Wrap(holdfast.KindInternal, err, "the identity provider's key cannot be made")
	}
	text := pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)})
	staged := file + ".new"
	if err := os.WriteFile(staged, text, 0o600); err != nil {
		return nil, holdfast.Wrap(holdfast.KindUnavailable, err, "the identity provider's key cannot be kept")
	}
	if err := os.Rename(staged, file); err != nil {
		return nil, holdfast.Wrap(holdfast.KindUnavailable, err, "the identity provider's key cannot be kept")
	}
	return key, nil
}
