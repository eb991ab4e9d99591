package azure

import (
	"os"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/cloud"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/azureconfig"
)

// cloudSettings are the endpoints and audiences of one cloud.
type cloudSettings struct {
	configuration cloud.Configuration
	own           bool     // endpoints were given: instance discovery and provider registration are not asked for
	blobSuffix    string   // of storage accounts; "" when endpoints were given
	vaultSuffixes []string // of key vaults; none when endpoints were given
}

// managementAudience is what a token for the resource manager is made out to, whatever the endpoint's own name.
const managementAudience = "https://management.azure.com/"

func settingsFor(config azureconfig.Config) cloudSettings {
	if e := config.Endpoints; e != nil {
		return cloudSettings{own: true, configuration: cloud.Configuration{
			ActiveDirectoryAuthorityHost: e.ActiveDirectory + "/",
			Services: map[cloud.ServiceName]cloud.ServiceConfiguration{
				cloud.ResourceManager: {Endpoint: e.ResourceManager, Audience: managementAudience},
			},
		}}
	}
	switch config.Cloud {
	case azureconfig.CloudUSGovernment:
		return cloudSettings{configuration: cloud.AzureGovernment, blobSuffix: "blob.core.usgovcloudapi.net", vaultSuffixes: []string{"vault.usgovcloudapi.net"}}
	case azureconfig.CloudChina:
		return cloudSettings{configuration: cloud.AzureChina, blobSuffix: "blob.core.chinacloudapi.cn", vaultSuffixes: []string{"vault.azure.cn"}}
	case azureconfig.CloudPublic:
	}
	return cloudSettings{
		configuration: cloud.AzurePublic, blobSuffix: "blob.core.windows.net", vaultSuffixes: []string{"vault.azure.net", "managedhsm.azure.net"},
	}
}

// newCredential makes the one credential that the configuration names. A service builds one explicitly rather than trying
// several: a fallback would act as somebody else.
func (c *Client) newCredential() (azcore.TokenCredential, error) {
	var credential azcore.TokenCredential
	var err error
	switch c.config.Credential {
	case azureconfig.CredentialSecret:
		credential, err = azidentity.NewClientSecretCredential(c.config.TenantID, c.config.ClientID, c.config.ClientSecret.Reveal(),
			&azidentity.ClientSecretCredentialOptions{ClientOptions: c.clientOptions(), DisableInstanceDiscovery: c.cloud.own})
	case azureconfig.CredentialCertificate:
		credential, err = c.certificateCredential()
	case azureconfig.CredentialManagedIdentity:
		options := &azidentity.ManagedIdentityCredentialOptions{ClientOptions: c.clientOptions()}
		if c.config.ClientID != "" {
			options.ID = azidentity.ClientID(c.config.ClientID)
		}
		credential, err = azidentity.NewManagedIdentityCredential(options)
	case azureconfig.CredentialWorkloadIdentity:
		credential, err = azidentity.NewWorkloadIdentityCredential(&azidentity.WorkloadIdentityCredentialOptions{
			ClientOptions: c.clientOptions(), DisableInstanceDiscovery: c.cloud.own,
			TenantID: c.config.TenantID, ClientID: c.config.ClientID, TokenFilePath: c.config.FederatedToken,
		})
	default:
		return nil, holdfast.Errorf(holdfast.KindInvalid, "%q is no kind of credential", c.config.Credential)
	}
	if err != nil {
		return nil, holdfast.Wrap(holdfast.KindInvalid, err, "the credential in the --azure file cannot be used").
			WithField(string(c.config.Credential))
	}
	return credential, nil
}

func (c *Client) certificateCredential() (azcore.TokenCredential, error) {
	data, err := os.ReadFile(c.config.Certificate)
	if err != nil {
		return nil, err
	}
	certificates, key, err := azidentity.ParseCertificates(data, nil)
	if err != nil {
		return nil, err
	}
	return azidentity.NewClientCertificateCredential(c.config.TenantID, c.config.ClientID, certificates, key,
		&azidentity.ClientCertificateCredentialOptions{
			ClientOptions: c.clientOptions(), DisableInstanceDiscovery: c.cloud.own, SendCertificateChain: true,
		})
}
