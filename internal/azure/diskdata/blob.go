// Package diskdata reads and writes the content of managed disks through their SAS: the reduced page-blob service that
// stands behind beginGetAccess.
//
// It promises that a read returns the bytes of the disk or an error, whatever the endpoint does on the way: short bodies,
// resets, throttling and timeouts are retried range by range, a SAS that expired or was revoked is asked for anew, and a
// list of ranges that is too fragmented for the service is asked for in smaller windows and, at the floor, replaced by
// "all of it". It never leaves out a range.
//
// It must never print or log the query of a SAS, send a conditional header or a content hash (the endpoint refuses or
// ignores them), or use the SDK's DownloadBuffer (which adds an If-Match).
//
// Sources: Get Page Ranges (service versions 2019-07-07 and later for comparing managed-disk snapshots, 2020-10-02 for
// paging), the disk-upload page of the compute documentation, and the behaviour of AzCopy.
package diskdata

import (
	"context"
	"errors"
	"net/http"
	"sync"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/pageblob"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/azure/answer"
	"github.com/holdfast-backup/holdfast/internal/clock"
	"github.com/holdfast-backup/holdfast/internal/vhd"
)

// DefaultVersion is the service version spoken to disk endpoints: old enough for endpoints that were not upgraded, new
// enough for paged range lists and for comparing snapshots by URL.
const DefaultVersion = "2020-10-02"

// Limits.
const (
	// windowBytes is how much of a disk one range list covers at first; windowFloorBytes is the smallest window, which
	// Azure's own advice says always passes.
	windowBytes      = 64 << 30
	windowFloorBytes = 128 << 20
	// rangesPerPage is the most that the service returns in one page.
	rangesPerPage = 10_000
	// writeBytesMax is the most that one Put Page takes.
	writeBytesMax = 4 << 20
	// tryTimeout bounds one request for at most a few MiB; a connection that hangs is given up.
	tryTimeout = 2 * time.Minute
	// attemptsMax is how often one range is tried without any progress.
	attemptsMax = 8
	// requestsMax and requestsAtFirst bound the requests in flight on one SAS.
	requestsMax     = 16
	requestsAtFirst = 8
)

// Config says what to open. All fields but Version, Delay and Tuning are required.
type Config struct {
	Name      string // of the disk or snapshot, for messages
	SizeBytes int64  // of the disk, without the footer; 0: it is found out by asking the blob
	// Grant asks for a SAS and returns its URL; it is called again when the URL no longer opens anything.
	Grant func(ctx context.Context) (string, error)
	// Revoke ends all access through SAS. It is harmless when there is none.
	Revoke    func(ctx context.Context) error
	Transport policy.Transporter
	Clock     clock.Clock
	Version   string        // x-ms-version; "" means DefaultVersion
	Delay     time.Duration // before the first retry, doubled each time; 0 means 500 ms
	Tuning    Tuning
}

// Tuning changes limits; zero values mean the built-in ones. Its units are bytes and ranges.
type Tuning struct {
	WindowBytes      int64
	WindowFloorBytes int64
	RangesPerPage    int32
}

// Blob is an open disk or snapshot. It implements machine.Content and machine.Upload; all methods but Close may be called
// from several goroutines.
type Blob struct {
	config Config
	pace   *pace

	mu         sync.Mutex // guards the following
	client     *pageblob.Client
	url        string
	generation int // counts grants
}

// Open asks for a SAS. When it returns an error, access may have been granted: the caller revokes.
func Open(ctx context.Context, config Config) (*Blob, error) {
	if config.Version == "" {
		config.Version = DefaultVersion
	}
	if config.Delay == 0 {
		config.Delay = 500 * time.Millisecond
	}
	if config.Tuning.WindowBytes == 0 {
		config.Tuning.WindowBytes = windowBytes
	}
	if config.Tuning.WindowFloorBytes == 0 {
		config.Tuning.WindowFloorBytes = windowFloorBytes
	}
	if config.Tuning.RangesPerPage == 0 {
		config.Tuning.RangesPerPage = rangesPerPage
	}
	b := &Blob{config: config, pace: newPace(requestsAtFirst, requestsMax)}
	if err := b.renew(ctx, 0); err != nil || config.SizeBytes > 0 {
		return b, err
	}
	return b, b.measure(ctx)
}

// measure finds out the size of the disk: that of its blob, less the footer that an export has at its end.
func (b *Blob) measure(ctx context.Context) error {
	var length int64
	err := b.try(ctx, "measure "+b.config.Name, func(ctx context.Context, g grant) (bool, error) {
		properties, err := g.client.GetProperties(ctx, nil)
		if err == nil && properties.ContentLength != nil {
			length = *properties.ContentLength
		}
		return false, err
	})
	if err != nil {
		return err
	}
	if length <= vhd.FooterBytes || length%vhd.FooterBytes != 0 {
		return holdfast.Errorf(holdfast.KindUnavailable, "the export of %s has %d bytes, which no disk has", b.config.Name, length)
	}
	b.config.SizeBytes = length - vhd.FooterBytes
	return nil
}

// SizeBytes returns the size of the disk.
func (b *Blob) SizeBytes() int64 { return b.config.SizeBytes }

// Close revokes the SAS.
func (b *Blob) Close(ctx context.Context) error { return b.config.Revoke(ctx) }

// grant is one SAS and the client that uses it.
type grant struct {
	client     *pageblob.Client
	url        string
	generation int
}

func (b *Blob) current() grant {
	b.mu.Lock()
	defer b.mu.Unlock()
	return grant{b.client, b.url, b.generation}
}

// renew asks for a new SAS unless somebody else already replaced the one of the given generation. The lock is held while
// asking, so that many readers that fail at once ask once.
func (b *Blob) renew(ctx context.Context, generation int) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.generation != generation {
		return nil
	}
	url, err := b.config.Grant(ctx)
	if err != nil {
		return err
	}
	client, err := pageblob.NewClientWithNoCredential(url, &pageblob.ClientOptions{ClientOptions: policy.ClientOptions{
		Transport:       b.config.Transport,
		PerCallPolicies: []policy.Policy{versionPolicy(b.config.Version)},
		Retry:           policy.RetryOptions{MaxRetries: -1, TryTimeout: tryTimeout},
		Telemetry:       policy.TelemetryOptions{ApplicationID: "holdfast"},
	}})
	if err != nil {
		// The cause would quote the URL.
		return holdfast.Errorf(holdfast.KindInternal, "the address that Azure returned for %s is not usable", b.config.Name)
	}
	b.client, b.url, b.generation = client, url, b.generation+1
	return nil
}

// versionPolicy overwrites the service version that the SDK would send: disk endpoints refuse versions they do not know.
type versionPolicy string

func (v versionPolicy) Do(request *policy.Request) (*http.Response, error) {
	request.Raw().Header.Set("x-ms-version", string(v))
	return request.Next()
}

// request is one exchange with the endpoint. It reports whether it got anywhere, even if it failed: a body that broke off
// in the middle leaves less to ask for.
type request func(ctx context.Context, g grant) (progress bool, err error)

// try repeats a request until it succeeds, is refused for good, or made no progress attemptsMax times in a row. also names
// other blobs whose SAS the request uses.
func (b *Blob) try(ctx context.Context, doing string, do request, also ...*Blob) error {
	for attempt := 1; ; attempt++ {
		progress, err := b.once(ctx, do, also)
		if err == nil {
			return nil
		}
		if ctxErr := ctx.Err(); ctxErr != nil {
			return answer.Explain(ctxErr, doing)
		}
		if progress {
			attempt = 1
		}
		if attempt >= attemptsMax || !repeatable(err) {
			return answer.Explain(err, doing)
		}
		wait := max(answer.RetryAfter(err, b.config.Clock.Now()), b.config.Delay<<(attempt-1))
		if err := b.config.Clock.Sleep(ctx, wait); err != nil {
			return answer.Explain(err, doing)
		}
	}
}

// once makes one request within the pace and, when its SAS opens nothing any more, renews it.
func (b *Blob) once(ctx context.Context, do request, also []*Blob) (bool, error) {
	if err := b.pace.acquire(ctx); err != nil {
		return false, err
	}
	g := b.current()
	others := make([]int, len(also))
	for i, other := range also {
		others[i] = other.current().generation
	}
	progress, err := do(ctx, g)
	b.pace.release(busy(err))
	if !expired(err) {
		return progress, err
	}
	if renewErr := b.renew(ctx, g.generation); renewErr != nil {
		return progress, renewErr
	}
	for i, other := range also {
		if renewErr := other.renew(ctx, others[i]); renewErr != nil {
			return progress, renewErr
		}
	}
	return progress, err
}

// errShortBody says that a body ended before its announced length.
var errShortBody = errors.New("the answer ended early")

// repeatable reports whether the same request may succeed later, or with a new SAS.
func repeatable(err error) bool {
	if tooSlow(err) {
		return false
	}
	return errors.Is(err, errShortBody) || errors.Is(err, context.DeadlineExceeded) || expired(err) || answer.Unknown(err)
}

// busy reports whether the endpoint asked for fewer requests.
func busy(err error) bool {
	status := answer.Status(err)
	return status == http.StatusServiceUnavailable || status == http.StatusTooManyRequests
}

// expired reports whether the endpoint no longer accepts the SAS.
func expired(err error) bool {
	status := answer.Status(err)
	return status == http.StatusForbidden || status == http.StatusUnauthorized
}
