package azure

import (
	"context"
	"slices"
	"strings"

	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/resources/armsubscriptions/v2"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/azure/answer"
)

// zonalBefore are the regions that had availability zones on 23 September 2025, by the list of regions in Azure's
// documentation. It stands in where nobody answers.
var zonalBefore = []string{
	"australiaeast", "austriaeast", "belgiumcentral", "brazilsouth", "canadacentral", "centralindia", "centralus", "chilecentral",
	"chinanorth3", "eastasia", "eastus", "eastus2", "francecentral", "germanywestcentral", "indonesiacentral", "israelcentral",
	"italynorth", "japaneast", "japanwest", "koreacentral", "malaysiawest", "mexicocentral", "newzealandnorth", "northeurope",
	"norwayeast", "polandcentral", "qatarcentral", "southafricanorth", "southcentralus", "southeastasia", "spaincentral",
	"swedencentral", "switzerlandnorth", "uaenorth", "uksouth", "usgovvirginia", "westeurope", "westus2", "westus3",
}

// zonal returns the regions with availability zones, sorted. Zones belong to regions: one subscription knows of all.
func (c *Client) zonal(ctx context.Context, subscriptions []string) ([]string, error) {
	for _, id := range subscriptions {
		regions, err := c.zonalBy(ctx, id)
		if err == nil {
			return regions, nil
		}
		if ctx.Err() != nil {
			return nil, answer.Explain(err, "list the regions")
		}
		// best effort: who may not list regions can still back up; only what a snapshot costs is estimated from the table.
		c.log.WarnContext(ctx, "the regions cannot be listed", "subscription", id, "error", answer.Explain(err, "list the regions"))
	}
	return slices.Clone(zonalBefore), nil
}

// zonalBy asks with one subscription.
func (c *Client) zonalBy(ctx context.Context, subscription string) ([]string, error) {
	factory, err := armsubscriptions.NewClientFactory(c.credential, c.arm)
	if err != nil {
		return nil, err
	}
	regions := []string{}
	pager := factory.NewClient().NewListLocationsPager(subscription, nil)
	for pages := 0; pager.More() && pages < pagesMax; pages++ {
		page, err := pager.NextPage(ctx)
		if err != nil {
			return nil, err
		}
		for _, l := range page.Value {
			if l != nil && len(l.AvailabilityZoneMappings) > 0 {
				regions = append(regions, regionName(text(l.Name)))
			}
		}
	}
	if len(regions) == 0 {
		return nil, holdfast.Errorf(holdfast.KindUnavailable, "the list of regions names none with zones")
	}
	slices.Sort(regions)
	return slices.Compact(regions), nil
}

// regionName returns a location in the form in which regions are compared: "West Europe" is westeurope.
func regionName(location string) string {
	return strings.ToLower(strings.ReplaceAll(location, " ", ""))
}
