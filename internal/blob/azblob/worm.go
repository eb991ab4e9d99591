package azblob

import (
	"context"
	"errors"
	"iter"
	"sync/atomic"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/to"
	azblobs "github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/blob"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/container"

	holdfast "github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/blob"
)

// extendTries bounds how often a lock is moved that others move at the same time.
const extendTries = 3

// WORM keeps objects in a container with version-level immutability. Safe for concurrent use.
type WORM struct {
	*Versioned
	proven atomic.Bool // a lock at birth was seen to hold
}

var (
	_ blob.Store     = (*WORM)(nil)
	_ blob.Locker    = (*WORM)(nil)
	_ blob.Versioned = (*WORM)(nil)
)

// NewWORM is New for a container with version-level immutability; HasVersionImmutability tells.
func NewWORM(client *container.Client, folder string) (*WORM, error) {
	store, err := NewVersioned(client, folder)
	if err != nil {
		return nil, err
	}
	return &WORM{Versioned: store}, nil
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

// Now implements blob.Locker: the Date of an answer.
func (w *WORM) Now(ctx context.Context) (time.Time, error) {
	page, err := w.client.NewListBlobsFlatPager(&container.ListBlobsFlatOptions{Prefix: to.Ptr(w.prefix), MaxResults: to.Ptr(int32(1))}).NextPage(ctx)
	if err != nil {
		return time.Time{}, w.readFailure(ctx, err, "the container")
	}
	if page.Date == nil {
		return time.Time{}, holdfast.Errorf(holdfast.KindUnavailable, "the service at %s does not tell its time, so no lock can be dated", w.url)
	}
	return *page.Date, nil
}

// Extend implements blob.Locker.
func (w *WORM) Extend(ctx context.Context, name string, until time.Time) error {
	if err := blob.CheckName(name); err != nil {
		return err
	}
	return w.extend(ctx, w.client.NewBlobClient(w.prefix+name), name, until)
}

// ExtendVersion implements blob.Locker.
func (w *WORM) ExtendVersion(ctx context.Context, name, version string, until time.Time) error {
	client, err := w.versionClient(name, version)
	if err != nil {
		return err
	}
	return w.extend(ctx, client, name, until)
}

// extend asks for the lock first, which is one request: the service refuses to shorten a lock. Only then it looks how long
// the present one is.
func (w *WORM) extend(ctx context.Context, client *azblobs.Client, name string, until time.Time) error {
	until = wholeSecond(until)
	for range extendTries {
		_, err := client.SetImmutabilityPolicy(ctx, until, &azblobs.SetImmutabilityPolicyOptions{Mode: to.Ptr(azblobs.ImmutabilityPolicySettingLocked)})
		if err == nil {
			return nil
		}
		properties, statErr := w.properties(ctx, client, name)
		if statErr != nil {
			return statErr
		}
		present := lockOf(properties.ImmutabilityPolicyExpiresOn, properties.ImmutabilityPolicyMode)
		if !present.IsZero() && !present.Before(until) {
			return nil
		}
		if err = w.changeFailure(ctx, err, "lock", name); !errors.Is(err, blob.ErrLocked) {
			return err
		}
	}
	return &blob.LockedError{Name: name} // others moved the lock each time, and never far enough
}
