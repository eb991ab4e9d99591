package azure

import (
	"context"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/runtime"
	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/compute/armcompute/v8"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/azure/answer"
	"github.com/holdfast-backup/holdfast/internal/azure/diskdata"
	"github.com/holdfast-backup/holdfast/internal/machine"
	"github.com/holdfast-backup/holdfast/internal/vhd"
)

// How long a SAS lives: three times what reading the whole disk takes at a speed that even a busy endpoint keeps, so that
// it outlives the work and not much more. Azure allows at most 60 days.
const (
	sasLifeMin     = 6 * time.Hour
	sasLifeMax     = 60 * 24 * time.Hour
	slowestBytes   = 20 << 20 // per second
	cleanupTimeout = 5 * time.Minute
)

func sasLife(sizeBytes int64) time.Duration {
	return min(max(3*time.Duration(sizeBytes/slowestBytes)*time.Second, sasLifeMin), sasLifeMax)
}

// OpenSnapshot opens a snapshot's content for reading. The caller closes it, which revokes the SAS.
func (c *Client) OpenSnapshot(ctx context.Context, s machine.Snapshot) (machine.Content, error) {
	return c.open(ctx, s.ID, s.SizeBytes, armcompute.AccessLevelRead)
}

// OpenDisk opens an unattached disk's content for reading. The caller closes it, which revokes the SAS.
func (c *Client) OpenDisk(ctx context.Context, id holdfast.ResourceID, sizeBytes int64) (machine.Content, error) {
	return c.open(ctx, id, sizeBytes, armcompute.AccessLevelRead)
}

// OpenUpload opens a disk that was created for upload. The caller writes the content and a fixed-VHD footer after it, and
// closes it, which ends the upload.
func (c *Client) OpenUpload(ctx context.Context, id holdfast.ResourceID, sizeBytes int64) (machine.Upload, error) {
	return c.open(ctx, id, sizeBytes, armcompute.AccessLevelWrite)
}

func (c *Client) open(ctx context.Context, id holdfast.ResourceID, sizeBytes int64, level armcompute.AccessLevel) (*diskdata.Blob, error) {
	return c.openFor(ctx, id, sizeBytes, sasLife(sizeBytes), level)
}

// openFor is open with another life of the SAS; a size of 0 is found out.
func (c *Client) openFor(ctx context.Context, id holdfast.ResourceID, sizeBytes int64, life time.Duration, level armcompute.AccessLevel) (*diskdata.Blob, error) {
	blob, err := diskdata.Open(ctx, diskdata.Config{
		Name:      id.Name(),
		SizeBytes: sizeBytes,
		Grant:     func(ctx context.Context) (string, error) { return c.grant(ctx, id, life, level) },
		Revoke:    func(ctx context.Context) error { return c.Revoke(ctx, id) },
		Transport: c.transport,
		Clock:     c.clock,
		Version:   c.options.DiskVersion,
		Delay:     c.options.Retry.Delay,
		Tuning:    c.options.DiskTuning,
	})
	if err == nil {
		return blob, nil
	}
	// The grant may have taken effect although its answer did not arrive. Nobody else will know of it.
	cleanup, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanupTimeout)
	defer cancel()
	if revokeErr := c.Revoke(cleanup, id); revokeErr != nil {
		c.log.WarnContext(ctx, "access may still be open", "resource", string(id), "error", revokeErr)
	}
	return nil, err
}

// grant asks for a SAS. It may be asked again: while one is active, Azure returns the same with its life extended.
func (c *Client) grant(ctx context.Context, id holdfast.ResourceID, life time.Duration, level armcompute.AccessLevel) (string, error) {
	doing := "open the content of " + id.Name()
	sub, err := c.in(id.Subscription())
	if err != nil {
		return "", err
	}
	wanted := armcompute.GrantAccessData{Access: &level, DurationInSeconds: pointer(int32(life / time.Second))}
	var uri armcompute.AccessURI
	err = c.carryOut(ctx, change{
		doing: doing,
		attempt: func(ctx context.Context) error {
			uri, err = c.grantOnce(ctx, sub, id, wanted)
			return err
		},
		look: func(context.Context) (bool, error) { return false, nil },
	})
	if err != nil {
		return "", err
	}
	// An answer without a Location header makes the SDK end without error and without a URL.
	if text(uri.AccessSAS) == "" {
		return "", holdfast.Errorf(holdfast.KindUnavailable, "could not %s: azure granted access and returned no address", doing).
			WithHint("run the command again")
	}
	return *uri.AccessSAS, nil
}

// grantOnce sends the request that a resource of id's type takes.
func (c *Client) grantOnce(ctx context.Context, sub *subscription, id holdfast.ResourceID, wanted armcompute.GrantAccessData) (armcompute.AccessURI, error) {
	switch typeOf(id) {
	case typeSnapshot:
		response, err := finish(ctx, c, func(ctx context.Context) (*runtime.Poller[armcompute.SnapshotsClientGrantAccessResponse], error) {
			return sub.snapshots.BeginGrantAccess(ctx, id.ResourceGroup(), id.Name(), wanted, nil)
		})
		return response.AccessURI, err
	case typePointDisk:
		response, err := finish(ctx, c, func(ctx context.Context) (*runtime.Poller[armcompute.DiskRestorePointClientGrantAccessResponse], error) {
			at := placeOf(id)
			return sub.pointDisks.BeginGrantAccess(ctx, at.group, at.collection, at.point, at.disk, wanted, nil)
		})
		return response.AccessURI, err
	}
	response, err := finish(ctx, c, func(ctx context.Context) (*runtime.Poller[armcompute.DisksClientGrantAccessResponse], error) {
		return sub.disks.BeginGrantAccess(ctx, id.ResourceGroup(), id.Name(), wanted, nil)
	})
	return response.AccessURI, err
}

// Revoke ends all access through SAS to a snapshot, disk or disk restore point, whoever asked for it. Without any, and for a resource that does
// not exist, it does nothing.
func (c *Client) Revoke(ctx context.Context, id holdfast.ResourceID) error {
	sub, err := c.in(id.Subscription())
	if err != nil {
		return err
	}
	return c.carryOut(ctx, change{
		doing: "end the access to " + id.Name(),
		attempt: func(ctx context.Context) (err error) {
			switch typeOf(id) {
			case typeSnapshot:
				_, err = finish(ctx, c, func(ctx context.Context) (*runtime.Poller[armcompute.SnapshotsClientRevokeAccessResponse], error) {
					return sub.snapshots.BeginRevokeAccess(ctx, id.ResourceGroup(), id.Name(), nil)
				})
			case typePointDisk:
				_, err = finish(ctx, c, func(ctx context.Context) (*runtime.Poller[armcompute.DiskRestorePointClientRevokeAccessResponse], error) {
					at := placeOf(id)
					return sub.pointDisks.BeginRevokeAccess(ctx, at.group, at.collection, at.point, at.disk, nil)
				})
			default:
				_, err = finish(ctx, c, func(ctx context.Context) (*runtime.Poller[armcompute.DisksClientRevokeAccessResponse], error) {
					return sub.disks.BeginRevokeAccess(ctx, id.ResourceGroup(), id.Name(), nil)
				})
			}
			if answer.NotFound(err) {
				return nil
			}
			return err
		},
		look: func(context.Context) (bool, error) { return false, nil },
	})
}

// endAccess ends all access to a resource that is going to be deleted. An upload that was broken off cannot be ended before
// it is a fixed VHD: then a footer makes it one, whatever stands before it.
func (c *Client) endAccess(ctx context.Context, id holdfast.ResourceID) error {
	err := c.Revoke(ctx, id)
	if err == nil || typeOf(id) != typeDisk {
		return err
	}
	sub, subErr := c.in(id.Subscription())
	if subErr != nil {
		return subErr
	}
	disk, getErr := sub.disks.Get(ctx, id.ResourceGroup(), id.Name(), nil)
	if getErr != nil || disk.Properties == nil || text(disk.Properties.DiskState) != string(armcompute.DiskStateActiveUpload) || disk.Properties.CreationData == nil {
		return err
	}
	sizeBytes := value(disk.Properties.CreationData.UploadSizeBytes) - vhd.FooterBytes
	upload, err := c.open(ctx, id, sizeBytes, armcompute.AccessLevelWrite)
	if err != nil {
		return err
	}
	footer := vhd.Footer(sizeBytes, [16]byte{}, c.clock.Now())
	if err := upload.WriteAt(ctx, footer[:], sizeBytes); err != nil {
		return err
	}
	return upload.Close(ctx)
}

// hasAccess reports whether resources of id's type can have a SAS.
func hasAccess(id holdfast.ResourceID) bool {
	return typeOf(id) == typeSnapshot || typeOf(id) == typeDisk
}
