package azure

import (
	"context"
	"net/http"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/runtime"

	"github.com/holdfast-backup/holdfast"
)

// captured runs one read and keeps the answer as it came, with the api-version that was asked for.
func captured(ctx context.Context, id holdfast.ResourceID, read func(ctx context.Context) error) (holdfast.Document, error) {
	var response *http.Response
	if err := read(policy.WithCaptureResponse(ctx, &response)); err != nil {
		return holdfast.Document{}, err
	}
	body, err := runtime.Payload(response)
	if err != nil {
		return holdfast.Document{}, err
	}
	version := response.Request.URL.Query().Get("api-version")
	return holdfast.Document{ID: id, APIVersion: version, Body: body}, nil
}
