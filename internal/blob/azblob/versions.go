package azblob

import (
	"context"
	"iter"
	"slices"
	"strings"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/to"
	azblobs "github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/blob"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/container"

	holdfast "github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/blob"
)

// versionsPage is how many versions of one object are asked for at a time: most have one, those that were tampered with a few.
const versionsPage = 100

// Versioned keeps objects in a container whose account keeps versions: what others overwrote or deleted is still there, as
// long as they do not delete the versions too. Safe for concurrent use.
type Versioned struct{ *Store }

var (
	_ blob.Store     = (*Versioned)(nil)
	_ blob.Versioned = (*Versioned)(nil)
)

// NewVersioned is New for an account that keeps versions; KeepsVersions tells.
func NewVersioned(client *container.Client, folder string) (*Versioned, error) {
	store, err := New(client, folder)
	if err != nil {
		return nil, err
	}
	return &Versioned{store}, nil
}

// KeepsVersions asks the service whether the first object of the store's folder has a version. An empty folder has none,
// and nothing that anybody could have shadowed.
func (s *Store) KeepsVersions(ctx context.Context) (bool, error) {
	page, err := s.client.NewListBlobsFlatPager(&container.ListBlobsFlatOptions{
		Prefix: to.Ptr(s.prefix), MaxResults: to.Ptr(int32(1)), Include: container.ListBlobsInclude{Versions: true},
	}).NextPage(ctx)
	if err != nil {
		return false, s.readFailure(ctx, err, "the container")
	}
	items := page.Segment.BlobItems
	return len(items) > 0 && value(items[0].VersionID) != "", nil
}

// versionInfo is what removing has to know about a version.
type versionInfo struct {
	blob.Version
	etag      *azcore.ETag
	protected bool
	until     time.Time // of any policy, also of one that could be shortened
}

// Versions implements blob.Versioned.
func (v *Versioned) Versions(ctx context.Context, name string) iter.Seq2[blob.Version, error] {
	return func(yield func(blob.Version, error) bool) {
		found, err := v.versions(ctx, name)
		if err != nil {
			yield(blob.Version{}, err)
			return
		}
		yieldVersions(found, yield)
	}
}

// ListVersions implements blob.Versioned. The service lists the versions of a name oldest first.
func (v *Versioned) ListVersions(ctx context.Context, prefix string) iter.Seq2[blob.Version, error] {
	return func(yield func(blob.Version, error) bool) {
		var held []versionInfo
		for next, err := range v.listVersions(ctx, prefix, nil) {
			if err != nil {
				yield(blob.Version{}, err)
				return
			}
			if len(held) > 0 && held[0].Name != next.Name {
				slices.Reverse(held)
				if !yieldVersions(held, yield) {
					return
				}
				held = held[:0]
			}
			held = append(held, next)
		}
		slices.Reverse(held)
		yieldVersions(held, yield)
	}
}

func yieldVersions(versions []versionInfo, yield func(blob.Version, error) bool) bool {
	for _, v := range versions {
		if !yield(v.Version, nil) {
			return false
		}
	}
	return true
}

// versions returns all versions of one object, newest first. The service lists the object before those whose names only
// begin like its own.
func (v *Versioned) versions(ctx context.Context, name string) ([]versionInfo, error) {
	if err := blob.CheckName(name); err != nil {
		return nil, err
	}
	var found []versionInfo
	for next, err := range v.listVersions(ctx, name, to.Ptr(int32(versionsPage))) {
		if err != nil {
			return nil, err
		}
		if next.Name != name {
			break
		}
		found = append(found, next)
	}
	slices.Reverse(found)
	return found, nil
}

// listVersions yields versions as the service lists them: by name, and oldest first.
func (v *Versioned) listVersions(ctx context.Context, prefix string, page *int32) iter.Seq2[versionInfo, error] {
	return func(yield func(versionInfo, error) bool) {
		pager := v.client.NewListBlobsFlatPager(&container.ListBlobsFlatOptions{
			Prefix: to.Ptr(v.prefix + prefix), MaxResults: page,
			Include: container.ListBlobsInclude{Versions: true, ImmutabilityPolicy: true, LegalHold: true},
		})
		for pager.More() {
			page, err := pager.NextPage(ctx)
			if err != nil {
				yield(versionInfo{}, v.readFailure(ctx, err, prefix))
				return
			}
			for _, item := range page.Segment.BlobItems {
				if !yield(describeVersion(item, v.prefix, value(page.Date)), nil) {
					return
				}
			}
		}
	}
}

// describeVersion judges protection by the service's own time.
func describeVersion(item *container.BlobItem, prefix string, now time.Time) versionInfo {
	properties := item.Properties
	until := value(properties.ImmutabilityPolicyExpiresOn)
	return versionInfo{
		Version: blob.Version{
			Name: strings.TrimPrefix(*item.Name, prefix), ID: value(item.VersionID), Size: value(properties.ContentLength), Current: value(item.IsCurrentVersion),
			LockedUntil: lockOf(properties.ImmutabilityPolicyExpiresOn, properties.ImmutabilityPolicyMode),
		},
		etag: properties.ETag, until: until, protected: value(properties.LegalHold) || until.After(now),
	}
}

// lockOf returns how long a policy holds for everybody. One that is not locked could be shortened or removed: it is no lock.
func lockOf[M ~string](until *time.Time, mode *M) time.Time {
	if !strings.EqualFold(string(value(mode)), string(azblobs.ImmutabilityPolicySettingLocked)) {
		return time.Time{}
	}
	return value(until)
}

// ReadVersion implements blob.Versioned.
func (v *Versioned) ReadVersion(ctx context.Context, name, version string, offset int64, p []byte) (int, error) {
	client, err := v.versionClient(name, version)
	if err != nil {
		return 0, err
	}
	return v.read(ctx, client, name, offset, p)
}

func (v *Versioned) versionClient(name, version string) (*azblobs.Client, error) {
	if err := blob.CheckName(name); err != nil {
		return nil, err
	}
	client, err := v.client.NewBlobClient(v.prefix + name).WithVersionID(version)
	if err != nil {
		return nil, holdfast.Wrap(holdfast.KindInvalid, err, "%q is not a version of %s", version, name)
	}
	return client, nil
}

// Remover returns the right to remove objects with all their versions.
func (v *Versioned) Remover() blob.Remover { return versionsRemover{v} }

type versionsRemover struct{ store *Versioned }

// Remove implements blob.Remover. Deleting alone would only make the current version an older one, so it is followed by
// deleting every version; when one of them is protected, nothing is touched. A run that was cut off is finished by
// the next Remove of the name.
func (r versionsRemover) Remove(ctx context.Context, name string) error {
	found, err := r.store.versions(ctx, name)
	if err != nil {
		return err
	}
	if err := mayBeRemoved(name, found); err != nil {
		return err
	}
	client := r.store.client.NewBlobClient(r.store.prefix + name)
	for _, v := range found {
		if v.Current {
			_, err := client.Delete(ctx, &azblobs.DeleteOptions{AccessConditions: &azblobs.AccessConditions{
				ModifiedAccessConditions: &azblobs.ModifiedAccessConditions{IfMatch: v.etag},
			}})
			if err != nil && !isMissing(err) {
				return r.store.changeFailure(ctx, err, "remove", name)
			}
		}
	}
	for _, v := range found {
		version, err := client.WithVersionID(v.ID)
		if err != nil {
			return holdfast.Wrap(holdfast.KindInternal, err, "the service lists %q as a version of %s", v.ID, name)
		}
		if _, err := version.Delete(ctx, nil); err != nil && !isMissing(err) {
			return r.store.changeFailure(ctx, err, "remove", name)
		}
	}
	return nil
}

// mayBeRemoved returns a LockedError when one of the versions is protected; its date is that of the longest protection.
func mayBeRemoved(name string, found []versionInfo) error {
	var locked *blob.LockedError
	for _, v := range found {
		switch {
		case !v.protected:
		case locked == nil:
			locked = &blob.LockedError{Name: name, Until: v.until}
		case v.until.After(locked.Until):
			locked.Until = v.until
		}
	}
	if locked == nil {
		return nil
	}
	return locked
}
