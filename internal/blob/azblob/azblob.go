// Package azblob is an object store in a folder of an Azure Blob container, through the Azure SDK.
//
// It promises the port of package blob with one Put Blob per object: created with "If-None-Match: *", its CRC64 checked by
// the service before it exists. An answer that got lost is looked up, never guessed: when the service says "exists" after
// more than one attempt, the object's bytes decide whether it was ours. Retries belong to the SDK; do not wrap a Store in
// another retry. It never overwrites, and it never asks for a lock that the container would ignore.
//
// Store is for containers without versions, Versioned for accounts that keep them: it finds older versions of what others
// overwrote or deleted. WORM is for containers with version-level immutability: it can lock as well.
package azblob

import (
	"bytes"
	"context"
	"errors"
	"hash/crc64"
	"io"
	"iter"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/streaming"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/to"
	azblobs "github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/blob"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/blockblob"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/container"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/sas"

	holdfast "github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/blob"
)

const (
	// crcPolynomial is the one of x-ms-content-crc64.
	crcPolynomial = 0x9A6C9329AC4BC9B5
	// readRetries is how often a download that breaks off in its body goes on where it stopped.
	readRetries = 5
	// comparePiece is how much is read at a time when a lost answer is looked up.
	comparePiece = 4 << 20
)

// Store keeps objects in a container without versions. Safe for concurrent use.
type Store struct {
	client *container.Client
	prefix string // the folder with a slash at its end, or ""
	url    string
	crc    *crc64.Table
}

var _ blob.Store = (*Store)(nil)

// New returns the store in a folder of the container; "" is the container itself. The client must have been made with
// ClientOptions. Nothing is asked of the service yet.
func New(client *container.Client, folder string) (*Store, error) {
	folder = strings.Trim(folder, "/")
	if err := checkFolder(folder); err != nil {
		return nil, err
	}
	parts, err := sas.ParseURL(client.URL())
	if err != nil || parts.ContainerName == "" {
		return nil, holdfast.Wrap(holdfast.KindInvalid, err, "the address of the container cannot be read")
	}
	account := parts.IPEndpointStyleInfo.AccountName
	if account == "" {
		account, _, _ = strings.Cut(parts.Host, ".")
	}
	s := &Store{client: client, crc: crc64.MakeTable(crcPolynomial), url: "azblob://" + account + "/" + parts.ContainerName}
	if folder != "" {
		s.prefix, s.url = folder+"/", s.url+"/"+folder
	}
	return s, nil
}

// ClientOptions returns options, or new ones for nil, with what a Store needs of its client: it has to know how often the
// SDK has sent a request. Pass the result to the SDK's constructor.
func ClientOptions(options *container.ClientOptions) *container.ClientOptions {
	if options == nil {
		options = &container.ClientOptions{}
	}
	options.PerRetryPolicies = append(options.PerRetryPolicies, countAttempts{})
	return options
}

// Put implements blob.Store. A lock is refused: the container keeps no versions, or is not known to.
func (s *Store) Put(ctx context.Context, name string, data []byte, opts blob.PutOptions) error {
	if !opts.LockUntil.IsZero() {
		return holdfast.Errorf(holdfast.KindInvalid, "the container does not have version-level immutability, so objects cannot be locked").
			WithHint("use a container that was made with version-level immutability")
	}
	return s.put(ctx, name, data, opts)
}

func (s *Store) put(ctx context.Context, name string, data []byte, opts blob.PutOptions) error {
	options, err := s.uploadOptions(name, data, opts)
	if err != nil {
		return err
	}
	attempts := new(atomic.Int32)
	body := streaming.NopCloser(bytes.NewReader(data))
	_, err = s.blockBlob(name).Upload(context.WithValue(ctx, attemptsKey{}, attempts), body, options)
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case attempts.Load() == 0 && !wasNotSent(err):
		return holdfast.Wrap(holdfast.KindInternal, err, "the container's client was not made with azblob.ClientOptions")
	case isExists(err) && attempts.Load() <= 1:
		return blob.ErrExists
	case isExists(err) || isUnknown(err):
		return s.settle(ctx, name, data, err)
	}
	return s.failure(err, "write", name)
}

func (s *Store) uploadOptions(name string, data []byte, opts blob.PutOptions) (*blockblob.UploadOptions, error) {
	if err := blob.CheckName(name); err != nil {
		return nil, err
	}
	options := &blockblob.UploadOptions{
		TransactionalValidation: azblobs.TransferValidationTypeCRC64(crc64.Checksum(data, s.crc)),
		AccessConditions: &azblobs.AccessConditions{
			ModifiedAccessConditions: &azblobs.ModifiedAccessConditions{IfNoneMatch: to.Ptr(azcore.ETagAny)},
		},
	}
	if opts.Tier != "" {
		tier, err := accessTier(opts.Tier)
		if err != nil {
			return nil, err
		}
		options.Tier = &tier
	}
	if !opts.LockUntil.IsZero() {
		options.ImmutabilityPolicyMode = to.Ptr(azblobs.ImmutabilityPolicySettingLocked)
		options.ImmutabilityPolicyExpiryTime = to.Ptr(wholeSecond(opts.LockUntil))
	}
	return options, nil
}

func accessTier(name string) (azblobs.AccessTier, error) {
	switch name {
	case "hot":
		return azblobs.AccessTierHot, nil
	case "cool":
		return azblobs.AccessTierCool, nil
	case "cold":
		return azblobs.AccessTierCold, nil
	}
	return "", holdfast.Errorf(holdfast.KindInvalid, "%q is not a tier for new objects", name).WithHint("use hot, cool or cold")
}

// settle finds out what became of a put whose answer was lost or came to a later attempt: cause is the last answer.
func (s *Store) settle(ctx context.Context, name string, data []byte, cause error) error {
	equal, err := s.holds(ctx, name, data)
	switch {
	case err == nil && equal:
		return nil
	case err == nil:
		return blob.ErrExists
	case ctx.Err() != nil:
		return context.Cause(ctx)
	}
	return errors.Join(s.failure(cause, "write", name), err)
}

// holds reports whether the object has exactly these bytes.
func (s *Store) holds(ctx context.Context, name string, data []byte) (bool, error) {
	info, err := s.Stat(ctx, name)
	if err != nil || info.Size != int64(len(data)) {
		return false, err
	}
	piece := make([]byte, min(comparePiece, len(data)))
	for offset := 0; offset < len(data); offset += comparePiece {
		n, err := s.Read(ctx, name, int64(offset), piece)
		if err != nil {
			return false, err
		}
		if !bytes.Equal(piece[:n], data[offset:min(offset+len(piece), len(data))]) {
			return false, nil
		}
	}
	return true, nil
}

// Read implements blob.Reader.
func (s *Store) Read(ctx context.Context, name string, offset int64, p []byte) (int, error) {
	if err := blob.CheckName(name); err != nil {
		return 0, err
	}
	return s.read(ctx, s.client.NewBlobClient(s.prefix+name), name, offset, p)
}

func (s *Store) read(ctx context.Context, client *azblobs.Client, name string, offset int64, p []byte) (int, error) {
	if len(p) == 0 {
		_, err := s.properties(ctx, client, name)
		return 0, err
	}
	response, err := client.DownloadStream(ctx, &azblobs.DownloadStreamOptions{Range: azblobs.HTTPRange{Offset: offset, Count: int64(len(p))}})
	if err != nil {
		if status(err) == http.StatusRequestedRangeNotSatisfiable {
			return 0, nil // the blob exists and ends before offset
		}
		return 0, s.readFailure(ctx, err, name)
	}
	body := response.NewRetryReader(ctx, &azblobs.RetryReaderOptions{MaxRetries: readRetries})
	n, err := io.ReadFull(body, p[:min(int64(len(p)), *response.ContentLength)])
	err = errors.Join(err, body.Close())
	if err != nil {
		return n, s.readFailure(ctx, err, name)
	}
	return n, nil
}

// Stat implements blob.Reader.
func (s *Store) Stat(ctx context.Context, name string) (blob.Info, error) {
	if err := blob.CheckName(name); err != nil {
		return blob.Info{}, err
	}
	properties, err := s.properties(ctx, s.client.NewBlobClient(s.prefix+name), name)
	if err != nil {
		return blob.Info{}, err
	}
	return blob.Info{
		Name: name, Size: *properties.ContentLength, LockedUntil: lockOf(properties.ImmutabilityPolicyExpiresOn, properties.ImmutabilityPolicyMode),
	}, nil
}

func (s *Store) properties(ctx context.Context, client *azblobs.Client, name string) (azblobs.GetPropertiesResponse, error) {
	properties, err := client.GetProperties(ctx, nil)
	if err != nil {
		return properties, s.readFailure(ctx, err, name)
	}
	if properties.ContentLength == nil {
		return properties, holdfast.Errorf(holdfast.KindUnavailable, "the service does not tell the size of %s", name)
	}
	return properties, nil
}

// List implements blob.Reader. The names are those below the folder, foreign ones included. Locks are not shown: lists of
// a Store have none, and those of a WORM have them.
func (s *Store) List(ctx context.Context, prefix string) iter.Seq2[blob.Info, error] {
	return s.list(ctx, prefix, container.ListBlobsInclude{})
}

func (s *Store) list(ctx context.Context, prefix string, include container.ListBlobsInclude) iter.Seq2[blob.Info, error] {
	return func(yield func(blob.Info, error) bool) {
		pager := s.client.NewListBlobsFlatPager(&container.ListBlobsFlatOptions{Prefix: to.Ptr(s.prefix + prefix), Include: include})
		for pager.More() {
			page, err := pager.NextPage(ctx)
			if err != nil {
				yield(blob.Info{}, s.readFailure(ctx, err, prefix))
				return
			}
			for _, item := range page.Segment.BlobItems {
				info := blob.Info{
					Name: strings.TrimPrefix(*item.Name, s.prefix), Size: value(item.Properties.ContentLength),
					LockedUntil: lockOf(item.Properties.ImmutabilityPolicyExpiresOn, item.Properties.ImmutabilityPolicyMode),
				}
				if !yield(info, nil) {
					return
				}
			}
		}
	}
}

// URL implements blob.Store.
func (s *Store) URL() string { return s.url }

// Remover returns the right to remove objects from the store.
func (s *Store) Remover() blob.Remover { return remover{s} }

type remover struct{ store *Store }

// Remove implements blob.Remover.
func (r remover) Remove(ctx context.Context, name string) error {
	if err := blob.CheckName(name); err != nil {
		return err
	}
	_, err := r.store.client.NewBlobClient(r.store.prefix+name).Delete(ctx, nil)
	if isMissing(err) {
		return nil
	}
	return r.store.changeFailure(ctx, err, "remove", name)
}

func (s *Store) blockBlob(name string) *blockblob.Client {
	return s.client.NewBlockBlobClient(s.prefix + name)
}

// checkFolder: a folder may have capitals, unlike the names below it; otherwise the same rules hold.
func checkFolder(folder string) error {
	if folder == "" {
		return nil
	}
	if err := blob.CheckName(strings.ToLower(folder)); err != nil {
		return holdfast.Wrap(holdfast.KindInvalid, err, "%q is not a folder for a repository", folder)
	}
	return nil
}

// wholeSecond rounds up, because the service keeps times of locks in seconds and a lock must not be shorter than asked.
func wholeSecond(t time.Time) time.Time {
	if whole := t.Truncate(time.Second); !whole.Equal(t) {
		return whole.Add(time.Second)
	}
	return t
}

func value[T any](p *T) T {
	if p == nil {
		return *new(T)
	}
	return *p
}

type attemptsKey struct{}

// countAttempts counts how often the SDK sends a request for the caller that waits for it.
type countAttempts struct{}

// Do implements policy.Policy.
func (countAttempts) Do(request *policy.Request) (*http.Response, error) {
	if attempts, ok := request.Raw().Context().Value(attemptsKey{}).(*atomic.Int32); ok {
		attempts.Add(1)
	}
	return request.Next()
}
