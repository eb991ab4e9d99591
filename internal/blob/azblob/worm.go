package azblob

import (
	"context"
	"errors"
	"iter"
	"slices"
	"sync/atomic"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/to"
	azblobs "github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/blob"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/container"

	holdfast "github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/blob"
)

const (
	versionsPage = 100 // versions asked for at a time: objects have one, those that were tampered with a few
	extendTries  = 3   // a lock that others move at the same time
)

// WORM keeps objects in a container with version-level immutability. Safe for concurrent use.
type WORM struct {
	*Store
	proven atomic.Bool // a lock at birth was seen to hold
}

var (
	_ blob.Store     = (*WORM)(nil)
	_ blob.Locker    = (*WORM)(nil)
	_ blob.Versioned = (*WORM)(nil)
)

// NewWORM is New for a container with version-level immutability; HasVersionImmutability tells.
func NewWORM(client *container.Client, folder string) (*WORM, error) {
	store, err := New(client, folder)
	if err != nil {
		return nil, err
	}
	return &WORM{Store: store}, nil
}

// HasVersionImmutability asks the service whether a container has version-level immutability. A SAS of the container does
// not permit to ask: KindRefused.
func HasVersionImmutability(ctx context.Context, client *container.Client) (bool, error) {
	properties, err := client.GetProperties(ctx, nil)
	if err != nil {
		s := &Store{url: client.URL()}
		return false, s.readFailure(ctx, err, "the container")
	}
	return value(properties.IsImmutableStorageWithVersioningEnabled), nil
}

// Put implements blob.Store. Locks are of the kind that nobody can shorten. The first lock of a WORM is looked at again
// after the put, because there are services that ignore what they do not know: then the error is KindInvalid, and the
// object stays, unlocked.
func (w *WORM) Put(ctx context.Context, name string, data []byte, opts blob.PutOptions) error {
	if err := w.put(ctx, name, data, opts); err != nil {
		return err
	}
	if opts.LockUntil.IsZero() || w.proven.Load() {
		return nil
	}
	info, err := w.Stat(ctx, name)
	if err != nil {
		return err
	}
	if info.LockedUntil.Before(opts.LockUntil) {
		return holdfast.Errorf(holdfast.KindInvalid, "the service took the object %s and ignored its lock", name).
			WithHint("use a container that was made with version-level immutability")
	}
	w.proven.Store(true)
	return nil
}

// List implements blob.Reader and shows locks.
func (w *WORM) List(ctx context.Context, prefix string) iter.Seq2[blob.Info, error] {
	return w.list(ctx, prefix, container.ListBlobsInclude{ImmutabilityPolicy: true})
}

// Extend implements blob.Locker.
func (w *WORM) Extend(ctx context.Context, name string, until time.Time) error {
	until = wholeSecond(until)
	var err error
	for range extendTries {
		info, statErr := w.Stat(ctx, name)
		if statErr != nil {
			return statErr
		}
		if !info.LockedUntil.Before(until) {
			return nil
		}
		_, err = w.client.NewBlobClient(w.prefix+name).SetImmutabilityPolicy(ctx, until, &azblobs.SetImmutabilityPolicyOptions{
			Mode: to.Ptr(azblobs.ImmutabilityPolicySettingLocked),
		})
		if err = w.changeFailure(ctx, err, "lock", name); !errors.Is(err, blob.ErrLocked) {
			return err
		}
	}
	return err // others moved the lock each time, and never far enough
}

// versionInfo is what removing has to know about a version.
type versionInfo struct {
	blob.Version
	etag      *azcore.ETag
	protected bool
}

// Versions implements blob.Versioned.
func (w *WORM) Versions(ctx context.Context, name string) iter.Seq2[blob.Version, error] {
	return func(yield func(blob.Version, error) bool) {
		found, err := w.versions(ctx, name)
		if err != nil {
			yield(blob.Version{}, err)
			return
		}
		for _, v := range found {
			if !yield(v.Version, nil) {
				return
			}
		}
	}
}

// versions returns all versions of one object, newest first. The service lists them oldest first, and the object before
// those whose names only begin like its own.
func (w *WORM) versions(ctx context.Context, name string) ([]versionInfo, error) {
	if err := blob.CheckName(name); err != nil {
		return nil, err
	}
	var found []versionInfo
	pager := w.client.NewListBlobsFlatPager(&container.ListBlobsFlatOptions{
		Prefix: to.Ptr(w.prefix + name), MaxResults: to.Ptr(int32(versionsPage)),
		Include: container.ListBlobsInclude{Versions: true, ImmutabilityPolicy: true, LegalHold: true},
	})
	for pager.More() {
		page, err := pager.NextPage(ctx)
		if err != nil {
			return nil, w.readFailure(ctx, err, name)
		}
		for _, item := range page.Segment.BlobItems {
			if *item.Name != w.prefix+name {
				slices.Reverse(found)
				return found, nil
			}
			found = append(found, describeVersion(item, value(page.Date)))
		}
	}
	slices.Reverse(found)
	return found, nil
}

// describeVersion judges protection by the service's own time.
func describeVersion(item *container.BlobItem, now time.Time) versionInfo {
	return versionInfo{
		Version:   blob.Version{ID: value(item.VersionID), Size: value(item.Properties.ContentLength), Current: value(item.IsCurrentVersion)},
		etag:      item.Properties.ETag,
		protected: value(item.Properties.LegalHold) || value(item.Properties.ImmutabilityPolicyExpiresOn).After(now),
	}
}

// ReadVersion implements blob.Versioned.
func (w *WORM) ReadVersion(ctx context.Context, name, version string, offset int64, p []byte) (int, error) {
	if err := blob.CheckName(name); err != nil {
		return 0, err
	}
	client, err := w.client.NewBlobClient(w.prefix + name).WithVersionID(version)
	if err != nil {
		return 0, holdfast.Wrap(holdfast.KindInvalid, err, "%q is not a version of %s", version, name)
	}
	return w.read(ctx, client, name, offset, p)
}

// Remover returns the right to remove objects with all their versions.
func (w *WORM) Remover() blob.Remover { return wormRemover{w} }

type wormRemover struct{ worm *WORM }

// Remove implements blob.Remover. Deleting alone would only make the current version an older one, so it is followed by
// deleting every version; when one of them is protected, nothing is touched. A run that was cut off is finished by
// the next Remove of the name.
func (r wormRemover) Remove(ctx context.Context, name string) error {
	found, err := r.worm.versions(ctx, name)
	if err != nil {
		return err
	}
	for _, v := range found {
		if v.protected {
			return blob.ErrLocked
		}
	}
	client := r.worm.client.NewBlobClient(r.worm.prefix + name)
	for _, v := range found {
		if v.Current {
			_, err := client.Delete(ctx, &azblobs.DeleteOptions{AccessConditions: &azblobs.AccessConditions{
				ModifiedAccessConditions: &azblobs.ModifiedAccessConditions{IfMatch: v.etag},
			}})
			if err != nil && !isMissing(err) {
				return r.worm.changeFailure(ctx, err, "remove", name)
			}
		}
	}
	for _, v := range found {
		version, err := client.WithVersionID(v.ID)
		if err != nil {
			return holdfast.Wrap(holdfast.KindInternal, err, "the service lists %q as a version of %s", v.ID, name)
		}
		if _, err := version.Delete(ctx, nil); err != nil && !isMissing(err) {
			return r.worm.changeFailure(ctx, err, "remove", name)
		}
	}
	return nil
}
