package azure

import (
	"context"
	"strings"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/runtime"
	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/compute/armcompute/v8"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/azure/answer"
	"github.com/holdfast-backup/holdfast/internal/machine"
)

// CreateSnapshot makes an incremental snapshot of a disk. The redundancy is left to the service: it repeats that of the
// family, and mixing is refused. Asked again for the same id and tags it returns the snapshot that exists. When it returns
// an error the snapshot may exist; DeleteSnapshot finds out.
func (c *Client) CreateSnapshot(ctx context.Context, r machine.SnapshotRequest) (machine.Snapshot, error) {
	sub, err := c.in(r.ID.Subscription())
	if err != nil {
		return machine.Snapshot{}, err
	}
	body := armcompute.Snapshot{
		Location: &r.Location,
		Tags:     tagsFor(r.Tags),
		Properties: &armcompute.SnapshotProperties{
			Incremental: pointer(true),
			CreationData: &armcompute.CreationData{
				CreateOption:     pointer(armcompute.DiskCreateOptionCopy),
				SourceResourceID: pointer(string(r.SourceID)),
			},
		},
	}
	var made machine.Snapshot
	err = c.carryOut(ctx, change{
		doing: "snapshot the disk " + r.SourceID.Name(),
		attempt: func(ctx context.Context) error {
			response, err := finish(ctx, c, func(ctx context.Context) (*runtime.Poller[armcompute.SnapshotsClientCreateOrUpdateResponse], error) {
				return sub.snapshots.BeginCreateOrUpdate(ctx, r.ID.ResourceGroup(), r.ID.Name(), body, nil)
			})
			made = snapshotOf(response.Snapshot)
			return err
		},
		look: func(ctx context.Context) (bool, error) {
			var state string
			made, state, err = c.snapshot(ctx, r.ID)
			switch {
			case answer.NotFound(err):
				return false, nil
			case err != nil:
				return false, err
			case !sameTags(made.Tags, r.Tags):
				return false, taken(r.ID)
			}
			return stateOf(state)
		},
	})
	return made, err
}

// Snapshot reads one snapshot; KindNotFound when there is none.
func (c *Client) Snapshot(ctx context.Context, id holdfast.ResourceID) (machine.Snapshot, error) {
	s, _, err := c.snapshot(ctx, id)
	return s, answer.Explain(err, "read the snapshot "+id.Name())
}

func (c *Client) snapshot(ctx context.Context, id holdfast.ResourceID) (machine.Snapshot, string, error) {
	sub, err := c.in(id.Subscription())
	if err != nil {
		return machine.Snapshot{}, "", err
	}
	response, err := sub.snapshots.Get(ctx, id.ResourceGroup(), id.Name(), nil)
	if err != nil {
		return machine.Snapshot{}, "", err
	}
	state := ""
	if p := response.Properties; p != nil {
		state = text(p.ProvisioningState)
	}
	return snapshotOf(response.Snapshot), state, nil
}

// DeleteSnapshot ends all access to a snapshot and removes it. A snapshot that does not exist is no error.
func (c *Client) DeleteSnapshot(ctx context.Context, id holdfast.ResourceID) error {
	return c.Delete(ctx, id)
}

// snapshotOf keeps what the flows need. A snapshot can be read when its access state says so, or, where the service does
// not send one, when the background copy is complete (api-version 2026-03-02).
func snapshotOf(s armcompute.Snapshot) machine.Snapshot {
	made := machine.Snapshot{ID: holdfast.ResourceID(text(s.ID)), Tags: tagsOf(s.Tags)}
	if s.SKU != nil {
		made.SKU = text(s.SKU.Name)
	}
	p := s.Properties
	if p == nil {
		return made
	}
	made.UniqueID = text(p.UniqueID)
	made.FamilyID = text(p.IncrementalSnapshotFamilyID)
	made.SizeBytes = value(p.DiskSizeBytes)
	if made.SizeBytes == 0 {
		made.SizeBytes = int64(value(p.DiskSizeGB)) << 30
	}
	if p.TimeCreated != nil {
		made.Created = p.TimeCreated.UTC()
	}
	if p.CreationData != nil {
		made.SourceID = holdfast.ResourceID(text(p.CreationData.SourceResourceID))
		made.SourceUniqueID = text(p.CreationData.SourceUniqueID)
	}
	complete := p.CompletionPercent == nil || *p.CompletionPercent >= 100
	made.Percent = 100
	if p.CompletionPercent != nil {
		made.Percent = float64(*p.CompletionPercent)
	}
	switch access := text(p.SnapshotAccessState); access {
	case "", "Unknown":
		made.Ready = complete && strings.EqualFold(text(p.ProvisioningState), "Succeeded")
	default:
		made.Ready = access == "Available" || access == "AvailableWithInstantAccess"
	}
	made.Failed = p.CopyCompletionError != nil || strings.EqualFold(text(p.ProvisioningState), "Failed")
	return made
}
