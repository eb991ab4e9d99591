package compute_test

import (
	azfake "github.com/Azure/azure-sdk-for-go/sdk/azcore/fake"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/to"
	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/resources/armresources/v4"
)

const networkVersion = "2025-05-01"

func (w *world) generic() *armresources.Client {
	return must(armresources.NewClient(subscription, &azfake.TokenCredential{}, w.options))(w.t)
}

// makeNIC makes a NIC in the estate's subnet through the generic resources API; address asks for a static one.
func (w *world) makeNIC(name, address string) (string, error) {
	w.t.Helper()
	configuration := map[string]any{"subnet": map[string]any{"id": subnetID}}
	if address != "" {
		configuration["privateIPAddress"], configuration["privateIPAllocationMethod"] = address, "Static"
	}
	nic := armresources.GenericResource{Location: to.Ptr(location), Properties: map[string]any{
		"ipConfigurations": []any{map[string]any{"name": "ipconfig1", "properties": configuration}},
	}}
	poller, err := w.generic().BeginCreateOrUpdateByID(w.t.Context(), nicPrefix+name, networkVersion, nic, nil)
	result, err := finish(w.t, poller, err)
	if err != nil {
		return "", err
	}
	return *result.ID, nil
}
