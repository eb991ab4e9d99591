package azure

import (
	"strings"

	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/container"

	"github.com/holdfast-backup/holdfast"
)

// ContainerClient returns a client for one blob container, signed in as the configured identity. It makes no request. adjust,
// optional, completes the SDK's options as the user of the client needs them.
func (c *Client) ContainerClient(account, name string, adjust func(*container.ClientOptions) *container.ClientOptions) (*container.Client, error) {
	if account == "" || name == "" || strings.ContainsAny(account+name, "/?#") {
		return nil, holdfast.Errorf(holdfast.KindInvalid, "%q and %q do not name a storage account and a container", account, name).
			WithHint("write the repository as azblob://ACCOUNT/CONTAINER/FOLDER")
	}
	address := "https://" + account + "." + c.cloud.blobSuffix
	if c.cloud.own {
		if c.config.Endpoints.Blob == "" {
			return nil, holdfast.Errorf(holdfast.KindInvalid, "the --azure file names no endpoint for blobs").
				WithField("endpoints.blob").WithHint("write it as https://HOST/{account} or https://{account}.HOST")
		}
		address = c.config.Endpoints.BlobURL(account)
	}
	options := &container.ClientOptions{ClientOptions: c.clientOptions()}
	if adjust != nil {
		options = adjust(options)
	}
	client, err := container.NewClient(strings.TrimSuffix(address, "/")+"/"+name, c.credential, options)
	if err != nil {
		return nil, holdfast.Wrap(holdfast.KindInvalid, err, "the container %s of account %s cannot be used", name, account)
	}
	return client, nil
}
