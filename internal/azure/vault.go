package azure

import (
	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/azure/vaultkey"
)

// KeyVaults returns access to the keys in the cloud's vaults, signed in as the configured identity. It makes no request. An --azure file
// that names endpoints and none for vaults is KindInvalid.
func (c *Client) KeyVaults() (*vaultkey.Vault, error) {
	access := vaultkey.Access{Credential: c.credential, Options: c.clientOptions(), Suffixes: c.cloud.vaultSuffixes}
	if c.cloud.own {
		if access.Endpoint = c.config.Endpoints.KeyVault; access.Endpoint == "" {
			return nil, holdfast.Errorf(holdfast.KindInvalid, "the --azure file names endpoints, but none for key vaults").
				WithField("endpoints.keyVault").WithHint("write it as https://HOST/{vault} or https://{vault}.HOST")
		}
	}
	return vaultkey.New(access), nil
}
