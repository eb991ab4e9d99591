package azure

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/resourcegraph/armresourcegraph"
	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/resources/armsubscriptions/v2"
	"golang.org/x/sync/errgroup"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/azure/answer"
	"github.com/holdfast-backup/holdfast/internal/machine"
)

// rowsPerPage is the most that Resource Graph returns at once.
const rowsPerPage = 1000

// Inventory returns what policies are resolved against: the machines as Machines lists them, and what decides whether and
// at what cost their disks are backed up. At is when it began: what changed later may be in it or not.
func (c *Client) Inventory(ctx context.Context) (holdfast.Inventory, error) {
	inventory := holdfast.Inventory{At: c.clock.Now().UTC().Truncate(time.Second), VMs: []holdfast.InventoryVM{}}
	subscriptions, err := c.subscriptionIDs(ctx)
	if err != nil {
		return holdfast.Inventory{}, answer.Explain(err, "list the subscriptions")
	}
	machines, err := c.machinesIn(ctx, subscriptions)
	if err != nil {
		return holdfast.Inventory{}, err
	}
	if err := c.describeDisks(ctx, machines); err != nil {
		return holdfast.Inventory{}, answer.Explain(err, "list the disks")
	}
	if inventory.Zonal, err = c.zonal(ctx, subscriptions); err != nil {
		return holdfast.Inventory{}, err
	}
	for _, vm := range machines {
		inventory.VMs = append(inventory.VMs, inventoryOf(vm))
	}
	return inventory, nil
}

// inventoryOf keeps what policies need of a machine.
func inventoryOf(vm machine.VM) holdfast.InventoryVM {
	kept := holdfast.InventoryVM{
		ID: vm.ID, Name: vm.Name, Region: regionName(vm.Location), Zone: vm.Zone, Size: vm.Size, OS: vm.OS, Power: vm.Power, Tags: vm.Tags,
		Disks: []holdfast.InventoryDisk{},
	}
	for _, d := range vm.Disks {
		disk := holdfast.InventoryDisk{LUN: d.LUN, Name: d.Name, SizeBytes: d.SizeBytes, SKU: d.SKU}
		if refusal, refused := d.Refusal(machine.Reader{}); refused {
			disk.Refused = refusal.Why
		}
		kept.Disks = append(kept.Disks, disk)
	}
	return kept
}

// Machines lists the virtual machines that the identity can see, sorted by id, with their disks' places and power states.
//
// Resource Graph finds them and runs minutes behind; so each is confirmed by a direct read, and one that is gone is left
// out. Where the identity may not query the graph, the subscriptions are listed one by one. Sizes and properties of the
// disks are not read.
func (c *Client) Machines(ctx context.Context) ([]machine.VM, error) {
	subscriptions, err := c.subscriptionIDs(ctx)
	if err != nil {
		return nil, answer.Explain(err, "list the virtual machines")
	}
	return c.machinesIn(ctx, subscriptions)
}

func (c *Client) machinesIn(ctx context.Context, subscriptions []string) ([]machine.VM, error) {
	const doing = "list the virtual machines"
	if len(subscriptions) == 0 {
		return nil, nil
	}
	ids, err := c.findMachines(ctx, subscriptions)
	if err != nil {
		c.log.WarnContext(ctx, "resource graph gave no answer, listing each subscription", "error", answer.Explain(err, doing))
		if ids, err = c.listMachines(ctx, subscriptions); err != nil {
			return nil, answer.Explain(err, doing)
		}
	}
	found := make([]machine.VM, len(ids))
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(readsAtOnce)
	for i, id := range ids {
		group.Go(func() error {
			vm, sdk, err := c.readMachine(ctx, id)
			if answer.NotFound(err) {
				return nil
			}
			vm.Disks = placesOf(sdk)
			found[i] = vm
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return nil, answer.Explain(err, doing)
	}
	found = slices.DeleteFunc(found, func(vm machine.VM) bool { return vm.ID == "" })
	slices.SortFunc(found, func(a, b machine.VM) int { return strings.Compare(a.ID.Key(), b.ID.Key()) })
	return found, nil
}

// subscriptionIDs returns those that the configuration limits us to, or all that the identity can see.
func (c *Client) subscriptionIDs(ctx context.Context) ([]string, error) {
	if len(c.config.Subscriptions) > 0 {
		return c.config.Subscriptions, nil
	}
	factory, err := armsubscriptions.NewClientFactory(c.credential, c.arm)
	if err != nil {
		return nil, err
	}
	var ids []string
	pager := factory.NewClient().NewListPager(nil)
	for pages := 0; pager.More() && pages < pagesMax; pages++ {
		page, err := pager.NextPage(ctx)
		if err != nil {
			return nil, err
		}
		for _, s := range page.Value {
			if s != nil && s.SubscriptionID != nil {
				ids = append(ids, *s.SubscriptionID)
			}
		}
	}
	return ids, nil
}

// findMachines asks Resource Graph for ids. The order makes its paging right.
func (c *Client) findMachines(ctx context.Context, subscriptions []string) ([]holdfast.ResourceID, error) {
	factory, err := armresourcegraph.NewClientFactory(c.credential, c.arm)
	if err != nil {
		return nil, err
	}
	client := factory.NewClient()
	query := armresourcegraph.QueryRequest{
		Query: pointer("Resources | where type =~ 'microsoft.compute/virtualmachines' | project id | order by id asc"),
		Options: &armresourcegraph.QueryRequestOptions{
			Top: pointer(int32(rowsPerPage)), ResultFormat: pointer(armresourcegraph.ResultFormatObjectArray),
		},
	}
	for _, id := range subscriptions {
		query.Subscriptions = append(query.Subscriptions, &id)
	}
	var ids []holdfast.ResourceID
	for range pagesMax {
		response, err := client.Resources(ctx, query, nil)
		if err != nil {
			return nil, err
		}
		rows, _ := response.Data.([]any)
		for _, row := range rows {
			if fields, ok := row.(map[string]any); ok {
				if id, ok := fields["id"].(string); ok {
					ids = append(ids, holdfast.ResourceID(id))
				}
			}
		}
		if query.Options.SkipToken = response.SkipToken; value(response.SkipToken) == "" {
			return ids, nil
		}
	}
	return nil, holdfast.Errorf(holdfast.KindUnavailable, "the answer of resource graph does not end")
}

// listMachines lists the machines of each subscription.
func (c *Client) listMachines(ctx context.Context, subscriptions []string) ([]holdfast.ResourceID, error) {
	var ids []holdfast.ResourceID
	for _, id := range subscriptions {
		sub, err := c.in(id)
		if err != nil {
			return nil, err
		}
		pager := sub.machines.NewListAllPager(nil)
		for pages := 0; pager.More() && pages < pagesMax; pages++ {
			page, err := pager.NextPage(ctx)
			if err != nil {
				return nil, err
			}
			for _, vm := range page.Value {
				if vm != nil && vm.ID != nil {
					ids = append(ids, holdfast.ResourceID(*vm.ID))
				}
			}
		}
	}
	return ids, nil
}
