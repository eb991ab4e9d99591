package azure

import (
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/runtime"
	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/compute/armcompute/v8"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/azure/answer"
	"github.com/holdfast-backup/holdfast/internal/machine"
)

// pagesMax bounds how many pages of one list are followed: a server that never ends its list must not hang us.
const pagesMax = 10_000

// Locks lists the management locks of a subscription, those on its groups and resources included. Each is matched with
// Lock.Covers; a lock above the subscription is not seen.
func (c *Client) Locks(ctx context.Context, subscription string) ([]machine.Lock, error) {
	const doing = "read the management locks"
	next := runtime.JoinPaths(c.pipeline.Endpoint(), "/subscriptions/"+url.PathEscape(subscription)+"/providers/Microsoft.Authorization/locks") +
		"?api-version=" + locksVersion
	var locks []machine.Lock
	for range pagesMax {
		var page struct {
			Value []struct {
				ID, Name   string
				Properties struct{ Level string }
			}
			NextLink string
		}
		if err := c.get(ctx, next, &page); err != nil {
			return nil, answer.Explain(err, doing)
		}
		for _, lock := range page.Value {
			scope := lock.ID
			if at := strings.Index(strings.ToLower(scope), "/providers/microsoft.authorization/locks/"); at >= 0 {
				scope = scope[:at]
			}
			locks = append(locks, machine.Lock{Name: lock.Name, Level: lock.Properties.Level, Scope: holdfast.ResourceID(scope)})
		}
		if next = page.NextLink; next == "" {
			return locks, nil
		}
	}
	return nil, holdfast.Errorf(holdfast.KindUnavailable, "could not %s: the list does not end", doing)
}

// get makes one plain read that no SDK module covers.
func (c *Client) get(ctx context.Context, address string, into any) error {
	request, err := runtime.NewRequest(ctx, http.MethodGet, address)
	if err != nil {
		return err
	}
	request.Raw().Header.Set("Accept", "application/json")
	response, err := c.pipeline.Pipeline().Do(request)
	if err != nil {
		return err
	}
	if !runtime.HasStatusCode(response, http.StatusOK) {
		return runtime.NewResponseError(response)
	}
	body, err := runtime.Payload(response)
	if err != nil {
		return err
	}
	return json.Unmarshal(body, into)
}

// GroupLocation returns the location of a resource group; KindNotFound when there is none.
func (c *Client) GroupLocation(ctx context.Context, subscription, group string) (string, error) {
	sub, err := c.in(subscription)
	if err != nil {
		return "", err
	}
	response, err := sub.groups.Get(ctx, group, nil)
	if answer.NotFound(err) {
		return "", holdfast.Wrap(holdfast.KindNotFound, err, "there is no resource group %s in subscription %s", group, subscription).
			WithField("resourceGroup").WithHint("create it first, or name another one")
	}
	if err != nil {
		return "", answer.Explain(err, "read the resource group "+group)
	}
	return text(response.Location), nil
}

// Size returns a VM size as the location offers it to the subscription; KindNotFound when it does not.
func (c *Client) Size(ctx context.Context, subscription, location, name string) (machine.Size, error) {
	doing := "list the VM sizes of " + location
	sub, err := c.in(subscription)
	if err != nil {
		return machine.Size{}, err
	}
	pager := sub.sizes.NewListPager(&armcompute.ResourceSKUsClientListOptions{Filter: pointer("location eq '" + location + "'")})
	for pages := 0; pager.More() && pages < pagesMax; pages++ {
		page, err := pager.NextPage(ctx)
		if err != nil {
			return machine.Size{}, answer.Explain(err, doing)
		}
		for _, sku := range page.Value {
			if sku != nil && strings.EqualFold(text(sku.ResourceType), "virtualMachines") && strings.EqualFold(text(sku.Name), name) && offered(sku, location) {
				return sizeOf(sku, location), nil
			}
		}
	}
	return machine.Size{}, holdfast.Errorf(holdfast.KindNotFound, "the size %s does not exist in %s", name, location).
		WithField("size").WithHint("choose a size that the region offers, with --size")
}

func offered(sku *armcompute.ResourceSKU, location string) bool {
	return slices.ContainsFunc(sku.Locations, func(l *string) bool { return strings.EqualFold(value(l), location) })
}

func sizeOf(sku *armcompute.ResourceSKU, location string) machine.Size {
	size := machine.Size{Name: text(sku.Name), Family: text(sku.Family)}
	for _, capability := range sku.Capabilities {
		if capability == nil {
			continue
		}
		number, _ := strconv.Atoi(value(capability.Value)) // texts become 0 and are not used as numbers
		switch text(capability.Name) {
		case "vCPUs":
			size.Cores = number
		case "MaxDataDiskCount":
			size.MaxDataDisks = number
		case "PremiumIO":
			size.PremiumDisks = strings.EqualFold(value(capability.Value), "true")
		case "HyperVGenerations":
			size.Generations = value(capability.Value)
		}
	}
	for _, info := range sku.LocationInfo {
		if info == nil || !strings.EqualFold(text(info.Location), location) {
			continue
		}
		for _, zone := range info.Zones {
			size.Zones = append(size.Zones, value(zone))
		}
		size.UltraZones = ultraZones(info)
	}
	for _, restriction := range sku.Restrictions {
		if restriction != nil && text(restriction.Type) == string(armcompute.ResourceSKURestrictionsTypeLocation) {
			size.Restricted = text(restriction.ReasonCode)
		}
	}
	return size
}

func ultraZones(info *armcompute.ResourceSKULocationInfo) []string {
	var zones []string
	for _, detail := range info.ZoneDetails {
		if detail == nil || !slices.ContainsFunc(detail.Capabilities, func(cp *armcompute.ResourceSKUCapabilities) bool {
			return cp != nil && text(cp.Name) == "UltraSSDAvailable" && strings.EqualFold(value(cp.Value), "true")
		}) {
			continue
		}
		for _, name := range detail.Name {
			zones = append(zones, value(name))
		}
	}
	return zones
}

// Usages lists how much of its quotas a subscription uses in a location.
func (c *Client) Usages(ctx context.Context, subscription, location string) ([]machine.Usage, error) {
	sub, err := c.in(subscription)
	if err != nil {
		return nil, err
	}
	var usages []machine.Usage
	pager := sub.usage.NewListPager(location, nil)
	for pages := 0; pager.More() && pages < pagesMax; pages++ {
		page, err := pager.NextPage(ctx)
		if err != nil {
			return nil, answer.Explain(err, "read the quotas of "+location)
		}
		for _, u := range page.Value {
			if u != nil && u.Name != nil {
				usages = append(usages, machine.Usage{Name: text(u.Name.Value), Current: int64(value(u.CurrentValue)), Limit: value(u.Limit)})
			}
		}
	}
	return usages, nil
}
