package azure

import (
	"context"
	"maps"
	"slices"
	"strings"

	"golang.org/x/sync/errgroup"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/azure/answer"
	"github.com/holdfast-backup/holdfast/internal/machine"
)

// wantedDisks are the places of disks by the key of the disk's id. A shared disk is in several.
type wantedDisks map[string][]*machine.Disk

// describeDisks completes the managed disks of machines with what their own resources say. It lists the disks of each
// subscription, which costs a request for a thousand of them; those that a list lacks, because it lags behind or may not be
// asked for, are read one by one. A disk that is gone by then is taken off its machine.
func (c *Client) describeDisks(ctx context.Context, machines []machine.VM) error {
	wanted := make(map[string]wantedDisks) // by subscription
	for i := range machines {
		for j := range machines[i].Disks {
			if d := &machines[i].Disks[j]; d.ID != "" {
				subscription := strings.ToLower(d.ID.Subscription())
				if wanted[subscription] == nil {
					wanted[subscription] = wantedDisks{}
				}
				wanted[subscription][d.ID.Key()] = append(wanted[subscription][d.ID.Key()], d)
			}
		}
	}
	if err := c.listAll(ctx, wanted); err != nil {
		return err
	}
	if err := c.readUnlisted(ctx, wanted); err != nil {
		return err
	}
	for i := range machines {
		machines[i].Disks = slices.DeleteFunc(machines[i].Disks, func(d machine.Disk) bool { return d.Name == "" })
	}
	return nil
}

// listAll completes the wanted disks that the lists of their subscriptions show, and takes them out of wanted.
func (c *Client) listAll(ctx context.Context, wanted map[string]wantedDisks) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(readsAtOnce)
	for subscription, disks := range wanted {
		group.Go(func() error {
			err := c.listDisks(ctx, subscription, disks)
			if holdfast.IsKind(answer.Explain(err, "list the disks"), holdfast.KindRefused) {
				// Who may read disks of some groups alone may not list those of the subscription.
				c.log.InfoContext(ctx, "disks cannot be listed, reading each", "subscription", subscription, "error", err)
				return nil
			}
			return err
		})
	}
	return group.Wait()
}

// listDisks completes the wanted disks of a subscription that its list shows, and takes them out of disks.
func (c *Client) listDisks(ctx context.Context, subscription string, disks wantedDisks) error {
	sub, err := c.in(subscription)
	if err != nil {
		return err
	}
	pager := sub.disks.NewListPager(nil)
	for pages := 0; pager.More() && pages < pagesMax; pages++ {
		page, err := pager.NextPage(ctx)
		if err != nil {
			return err
		}
		for _, sdk := range page.Value {
			if sdk == nil || sdk.ID == nil {
				continue
			}
			key := holdfast.ResourceID(*sdk.ID).Key()
			for _, d := range disks[key] {
				describe(d, *sdk)
			}
			delete(disks, key)
		}
	}
	return nil
}

// readUnlisted reads the disks that are still wanted.
func (c *Client) readUnlisted(ctx context.Context, wanted map[string]wantedDisks) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(readsAtOnce)
	for _, disks := range wanted {
		for places := range maps.Values(disks) {
			group.Go(func() error {
				for _, d := range places {
					_, err := c.readDisk(ctx, d)
					if answer.NotFound(err) {
						d.Name = "" // gone since the machine was read
						continue
					}
					if err != nil {
						return err
					}
				}
				return nil
			})
		}
	}
	return group.Wait()
}
