package azure

import (
	"context"
	"errors"
	"strconv"
	"strings"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/runtime"
	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/compute/armcompute/v8"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/azure/answer"
	"github.com/holdfast-backup/holdfast/internal/machine"
)

// The types of restore points, in lower case.
const (
	typeCollection = "microsoft.compute/restorepointcollections"
	typePoint      = typeCollection + "/restorepoints"
	typePointDisk  = typePoint + "/diskrestorepoints"
)

// place is where a restore point, or one of its disks, lies.
type place struct{ group, collection, point, disk string }

// placeOf reads an id of the three types; what the id does not name is "".
func placeOf(id holdfast.ResourceID) place {
	p := place{group: id.ResourceGroup()}
	parts := strings.Split(strings.Trim(string(id), "/"), "/")
	for i := 6; i+1 < len(parts); i += 2 {
		switch strings.ToLower(parts[i]) {
		case "restorepointcollections":
			p.collection = parts[i+1]
		case "restorepoints":
			p.point = parts[i+1]
		case "diskrestorepoints":
			p.disk = parts[i+1]
		}
	}
	return p
}

// CreateCollection makes a restore point collection of a machine. Asked again for the same id, machine and tags it returns
// the one that exists; another's under that name is refused and not touched.
func (c *Client) CreateCollection(ctx context.Context, r machine.CollectionRequest) (machine.Collection, error) {
	sub, err := c.in(r.ID.Subscription())
	if err != nil {
		return machine.Collection{}, err
	}
	var made machine.Collection
	look := func(ctx context.Context) (bool, error) {
		found, err := c.collection(ctx, r.ID)
		switch {
		case answer.NotFound(err):
			return false, nil
		case err != nil:
			return false, err
		case !sameTags(found.Tags, r.Tags) || !found.SourceID.Equal(r.SourceID):
			return false, taken(r.ID)
		}
		made = found
		return true, nil
	}
	// A PUT would lay our tags over a collection that is there already, whosever it is.
	if done, err := look(ctx); done || err != nil {
		return made, answer.Explain(err, "read the restore point collection "+r.ID.Name())
	}
	body := armcompute.RestorePointCollection{
		Location: &r.Location, Tags: tagsFor(r.Tags),
		Properties: &armcompute.RestorePointCollectionProperties{Source: &armcompute.RestorePointCollectionSourceProperties{ID: pointer(string(r.SourceID))}},
	}
	err = c.carryOut(ctx, change{
		doing: "make the restore point collection " + r.ID.Name(),
		attempt: func(ctx context.Context) error {
			ctx = policy.WithRetryOptions(ctx, policy.RetryOptions{MaxRetries: -1})
			response, err := sub.collections.CreateOrUpdate(ctx, r.ID.ResourceGroup(), r.ID.Name(), body, nil)
			made = collectionOf(response.RestorePointCollection)
			return err
		},
		look: look,
	})
	return made, err
}

// Collection reads a restore point collection; KindNotFound when there is none.
func (c *Client) Collection(ctx context.Context, id holdfast.ResourceID) (machine.Collection, error) {
	found, err := c.collection(ctx, id)
	return found, answer.Explain(err, "read the restore point collection "+id.Name())
}

func (c *Client) collection(ctx context.Context, id holdfast.ResourceID) (machine.Collection, error) {
	sub, err := c.in(id.Subscription())
	if err != nil {
		return machine.Collection{}, err
	}
	response, err := sub.collections.Get(ctx, id.ResourceGroup(), id.Name(), nil)
	return collectionOf(response.RestorePointCollection), err
}

func collectionOf(c armcompute.RestorePointCollection) machine.Collection {
	made := machine.Collection{ID: holdfast.ResourceID(text(c.ID)), Location: text(c.Location), Tags: tagsOf(c.Tags)}
	if c.Properties != nil && c.Properties.Source != nil {
		made.SourceID = holdfast.ResourceID(text(c.Properties.Source.ID))
	}
	return made
}

// DeleteCollection removes a collection with all points in it; access through SAS to any of them is ended. One that does
// not exist is no error. Whether it is ours to remove is for the caller to know.
func (c *Client) DeleteCollection(ctx context.Context, id holdfast.ResourceID) error {
	sub, err := c.in(id.Subscription())
	if err != nil {
		return err
	}
	return c.removeHeld(ctx, id, func(ctx context.Context) error {
		_, err := finish(ctx, c, func(ctx context.Context) (*runtime.Poller[armcompute.RestorePointCollectionsClientDeleteResponse], error) {
			return sub.collections.BeginDelete(ctx, id.ResourceGroup(), id.Name(), nil)
		})
		return err
	})
}

// CreateRestorePoint makes a restore point of the collection's machine. A point has no tags: one of that name in a
// collection of ours is ours. Asked again for the same id it returns the point that exists. One whose creation failed is
// removed, at the next attempt or before an error is returned, as far as that is possible.
func (c *Client) CreateRestorePoint(ctx context.Context, r machine.RestorePointRequest) (machine.RestorePoint, error) {
	sub, err := c.in(r.ID.Subscription())
	if err != nil {
		return machine.RestorePoint{}, err
	}
	properties := &armcompute.RestorePointProperties{}
	if r.Consistency == machine.CrashConsistent {
		properties.ConsistencyMode = pointer(armcompute.ConsistencyModeTypesCrashConsistent)
	}
	for _, disk := range r.Exclude {
		properties.ExcludeDisks = append(properties.ExcludeDisks, &armcompute.APIEntityReference{ID: pointer(string(disk))})
	}
	at := placeOf(r.ID)
	err = c.carryOut(ctx, change{
		doing: "make the restore point " + r.ID.Name(),
		attempt: func(ctx context.Context) error {
			_, err := finish(ctx, c, func(ctx context.Context) (*runtime.Poller[armcompute.RestorePointsClientCreateResponse], error) {
				return sub.points.BeginCreate(ctx, at.group, at.collection, at.point, armcompute.RestorePoint{Properties: properties}, nil)
			})
			return err
		},
		look: func(ctx context.Context) (bool, error) { return c.pointStands(ctx, r.ID) },
	})
	if err != nil {
		c.removeFailed(ctx, r.ID)
		return machine.RestorePoint{}, err
	}
	return c.RestorePoint(ctx, r.ID)
}

// pointStands reports whether a point is there and whole; one that failed is removed, since a name can be used once.
func (c *Client) pointStands(ctx context.Context, id holdfast.ResourceID) (bool, error) {
	_, state, err := c.point(ctx, id)
	switch {
	case answer.NotFound(err):
		return false, nil
	case err != nil:
		return false, err
	}
	done, err := stateOf(state)
	if done || err != nil {
		return done, err
	}
	return false, c.DeleteRestorePoint(ctx, id)
}

// removeFailed takes away what a creation that failed left.
func (c *Client) removeFailed(ctx context.Context, id holdfast.ResourceID) {
	cleanup, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanupTimeout)
	defer cancel()
	_, state, err := c.point(cleanup, id)
	if err == nil && strings.EqualFold(state, "Failed") {
		err = c.DeleteRestorePoint(cleanup, id)
	}
	if err != nil && !answer.NotFound(err) {
		// best effort: whoever asks for the point again removes it first
		c.log.WarnContext(ctx, "a failed restore point may be left", "resource", string(id), "error", err)
	}
}

// RestorePoint reads a restore point with its disks; KindNotFound when there is none.
func (c *Client) RestorePoint(ctx context.Context, id holdfast.ResourceID) (machine.RestorePoint, error) {
	found, _, err := c.point(ctx, id)
	return found, answer.Explain(err, "read the restore point "+id.Name())
}

func (c *Client) point(ctx context.Context, id holdfast.ResourceID) (machine.RestorePoint, string, error) {
	sub, err := c.in(id.Subscription())
	if err != nil {
		return machine.RestorePoint{}, "", err
	}
	at := placeOf(id)
	response, err := sub.points.Get(ctx, at.group, at.collection, at.point, nil)
	if err != nil {
		return machine.RestorePoint{}, "", err
	}
	p := response.Properties
	if p == nil {
		return machine.RestorePoint{}, "", holdfast.Errorf(holdfast.KindUnavailable, "the restore point %s came without properties", id.Name())
	}
	found := machine.RestorePoint{
		ID: holdfast.ResourceID(text(response.ID)), Consistency: machine.Consistency(text(p.ConsistencyMode)),
		Failed: strings.EqualFold(text(p.ProvisioningState), "Failed"), Disks: pointDisksOf(p.SourceMetadata),
	}
	if p.TimeCreated != nil {
		found.Created = p.TimeCreated.UTC()
	}
	for i := range found.Disks {
		if found.Failed || !strings.EqualFold(text(p.ProvisioningState), "Succeeded") {
			break // the disks of such a point may not be there
		}
		if err := c.readPointDisk(ctx, sub, &found.Disks[i]); err != nil {
			return machine.RestorePoint{}, "", err
		}
	}
	return found, text(p.ProvisioningState), nil
}

// pointDisksOf lists the disks in their places; a point that failed names none of them.
func pointDisksOf(m *armcompute.RestorePointSourceMetadata) []machine.PointDisk {
	if m == nil || m.StorageProfile == nil {
		return nil
	}
	var disks []machine.PointDisk
	add := func(lun holdfast.LUN, attributes *armcompute.DiskRestorePointAttributes, source *armcompute.ManagedDiskParameters, sizeGB *int32) {
		if attributes != nil && attributes.ID != nil {
			disks = append(disks, machine.PointDisk{ID: holdfast.ResourceID(*attributes.ID), LUN: lun, SourceID: managedID(source), SizeGiB: int64(value(sizeGB))})
		}
	}
	if d := m.StorageProfile.OSDisk; d != nil {
		add(holdfast.OSDisk, d.DiskRestorePoint, d.ManagedDisk, d.DiskSizeGB)
	}
	for _, d := range m.StorageProfile.DataDisks {
		if d != nil {
			add(holdfast.LUN(strconv.Itoa(int(value(d.Lun)))), d.DiskRestorePoint, d.ManagedDisk, d.DiskSizeGB)
		}
	}
	return disks
}

// readPointDisk completes a disk restore point with what its own resource says.
func (c *Client) readPointDisk(ctx context.Context, sub *subscription, d *machine.PointDisk) error {
	at := placeOf(d.ID)
	response, err := sub.pointDisks.Get(ctx, at.group, at.collection, at.point, at.disk, nil)
	if err != nil {
		return err
	}
	p := response.Properties
	if p == nil {
		return holdfast.Errorf(holdfast.KindUnavailable, "the disk restore point %s came without properties", d.ID.Name())
	}
	d.FamilyID, d.SourceUniqueID, d.Percent = text(p.FamilyID), text(p.SourceUniqueID), 100
	if p.SourceResourceID != nil {
		d.SourceID = holdfast.ResourceID(*p.SourceResourceID)
	}
	if p.CompletionPercent != nil {
		d.Percent = float64(*p.CompletionPercent)
	}
	access := text(p.SnapshotAccessState)
	d.Ready = access == "Available" || access == "AvailableWithInstantAccess" || (access == "" || access == "Unknown") && d.Percent >= 100
	return nil
}

// DeleteRestorePoint ends all access to the disks of a restore point and removes it. One that does not exist is no error.
func (c *Client) DeleteRestorePoint(ctx context.Context, id holdfast.ResourceID) error {
	sub, err := c.in(id.Subscription())
	if err != nil {
		return err
	}
	at := placeOf(id)
	return c.removeHeld(ctx, id, func(ctx context.Context) error {
		_, err := finish(ctx, c, func(ctx context.Context) (*runtime.Poller[armcompute.RestorePointsClientDeleteResponse], error) {
			return sub.points.BeginDelete(ctx, at.group, at.collection, at.point, nil)
		})
		return err
	})
}

// removeHeld deletes a point or collection; when a SAS on one of its disks holds it, that is ended first.
func (c *Client) removeHeld(ctx context.Context, id holdfast.ResourceID, attempt func(ctx context.Context) error) error {
	return c.carryOut(ctx, change{
		doing: "delete " + id.Name(),
		attempt: func(ctx context.Context) error {
			err := attempt(ctx)
			if strings.EqualFold(answer.Code(err), "DiskRestorePointUsedByCustomer") {
				if err := c.endAccessBelow(ctx, id); err != nil {
					return err
				}
				err = attempt(ctx)
			}
			if answer.NotFound(err) {
				return nil
			}
			return err
		},
		look: func(ctx context.Context) (bool, error) {
			var err error
			if typeOf(id) == typeCollection {
				_, err = c.collection(ctx, id)
			} else {
				_, _, err = c.point(ctx, id)
			}
			if answer.NotFound(err) {
				return true, nil
			}
			return false, err
		},
	})
}

// endAccessBelow ends all access to the disks of a point, or of all points of a collection.
func (c *Client) endAccessBelow(ctx context.Context, id holdfast.ResourceID) error {
	points := []holdfast.ResourceID{id}
	if typeOf(id) == typeCollection {
		sub, err := c.in(id.Subscription())
		if err != nil {
			return err
		}
		response, err := sub.collections.Get(ctx, id.ResourceGroup(), id.Name(), &armcompute.RestorePointCollectionsClientGetOptions{
			Expand: pointer(armcompute.RestorePointCollectionExpandOptionsRestorePoints),
		})
		if err != nil {
			return err
		}
		points = nil
		if response.Properties != nil {
			for _, p := range response.Properties.RestorePoints {
				points = append(points, holdfast.ResourceID(text(p.ID)))
			}
		}
	}
	var problems error
	for _, point := range points {
		found, _, err := c.point(ctx, point)
		problems = errors.Join(problems, err)
		for _, d := range found.Disks {
			problems = errors.Join(problems, c.Revoke(ctx, d.ID))
		}
	}
	return problems
}

// OpenPointDisk opens what a disk held for reading; two of one family can be compared. Its exact size is found by asking
// its blob. The caller closes it, which revokes the SAS.
func (c *Client) OpenPointDisk(ctx context.Context, d machine.PointDisk) (machine.Content, error) {
	return c.openFor(ctx, d.ID, 0, sasLife(d.SizeGiB<<30), armcompute.AccessLevelRead)
}
