package main

import (
	"context"
	"sync"

	"github.com/holdfast-backup/holdfast/internal/azure/vaultkey"
	"github.com/holdfast-backup/holdfast/internal/repo"
)

// vault gives a repository the keys in vaults. The client is made when it is first needed: a command that never asks a vault must
// not fail for an identity that is not there.
type vault struct {
	app *app

	once  sync.Once
	vault *vaultkey.Vault
	err   error
}

// vault returns the vaults that --azure or HOLDFAST_AZURE leads to, nil where neither is given.
func (a *app) vault() repo.Vault {
	if a.azureFile == "" && a.getenv("HOLDFAST_AZURE") == "" {
		return nil
	}
	return &vault{app: a}
}

func (v *vault) open() (*vaultkey.Vault, error) {
	v.once.Do(func() {
		client, err := v.app.azureClient()
		if err != nil {
			v.err = err
			return
		}
		v.vault, v.err = client.KeyVaults()
	})
	return v.vault, v.err
}

// Wrap implements repo.Vault.
func (v *vault) Wrap(ctx context.Context, keyID string, plain []byte) (repo.WrappedKey, error) {
	vault, err := v.open()
	if err != nil {
		return repo.WrappedKey{}, err
	}
	w, err := vault.Wrap(ctx, keyID, plain)
	return repo.WrappedKey(w), err
}

// Unwrap implements repo.Vault.
func (v *vault) Unwrap(ctx context.Context, w repo.WrappedKey) ([]byte, error) {
	vault, err := v.open()
	if err != nil {
		return nil, err
	}
	return vault.Unwrap(ctx, vaultkey.Wrapped(w))
}
