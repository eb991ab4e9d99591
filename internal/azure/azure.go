// Package azure is the only client of Azure's management interface, and through package diskdata of managed-disk data. It
// speaks the real SDK to whatever endpoints the configuration names: Azure itself, a sovereign cloud, or the twin.
//
// What it promises to the flows:
//
//   - Every error is a *holdfast.Error whose kind decides what happens next and whose hint tells an operator what to do.
//   - A change of the cloud (Create…, Put, Delete, Revoke) ends with its outcome known: an answer that got lost, a timeout,
//     or a throttle that came after the work was done is looked up by the name chosen beforehand before anything is tried
//     again. A change may therefore be asked for any number of times.
//   - Answers are kept raw (holdfast.Document), because the typed models drop what they do not know.
//
// What it must never do: find by listing what a decision about deletion rests on, take another's resource for ours because
// the name fits, or let the query of a SAS URL out of its hands.
//
// API versions are those of the SDK modules (compute 2026-04-01, disks and snapshots 2026-03-02); generic calls name
// theirs in this package.
package azure

import (
	"crypto/tls"
	"crypto/x509"
	"log/slog"
	"net"
	"net/http"
	"os"
	"sync"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/arm"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/compute/armcompute/v8"
	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/resources/armresources/v4"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/azure/diskdata"
	"github.com/holdfast-backup/holdfast/internal/azureconfig"
	"github.com/holdfast-backup/holdfast/internal/clock"
)

// applicationID is what the service sees as the caller, beside the SDK's own name.
const applicationID = "holdfast"

// Options are what the configuration file does not say. The zero value is fit for Azure.
type Options struct {
	Clock clock.Clock  // nil: the system's
	Log   *slog.Logger // nil: nothing is logged
	Retry Retry
	// PollEvery is how often a long-running operation is asked for when the service names no interval: 5 s by default.
	// Azure allows 15 polls a minute and resource, so not much less.
	PollEvery time.Duration
	// Wrap lets a caller see or disturb every request; nil leaves the transport as it is.
	Wrap func(http.RoundTripper) http.RoundTripper
	// DiskVersion is the x-ms-version spoken to disk endpoints; "" means diskdata.DefaultVersion.
	DiskVersion string
	DiskTuning  diskdata.Tuning
}

// Retry says how often and how patiently a request is repeated. Zero values mean the defaults.
type Retry struct {
	Attempts int           // in all; 6 by default
	Delay    time.Duration // before the second attempt, doubled each time; 1 s by default
	DelayMax time.Duration // the longest wait a server may ask for; 15 min by default, for Azure does ask for five
}

// Client talks to Azure. Safe for concurrent use.
type Client struct {
	config     azureconfig.Config
	options    Options
	clock      clock.Clock
	log        *slog.Logger
	transport  *http.Client
	cloud      cloudSettings
	credential azcore.TokenCredential
	arm        *arm.ClientOptions
	pipeline   *arm.Client // for the few calls that no SDK module covers

	mu            sync.Mutex // guards subscriptions
	subscriptions map[string]*subscription
}

// subscription holds the SDK's clients of one subscription.
type subscription struct {
	machines  *armcompute.VirtualMachinesClient
	disks     *armcompute.DisksClient
	snapshots *armcompute.SnapshotsClient
	sizes     *armcompute.ResourceSKUsClient
	usage     *armcompute.UsageClient
	resources *armresources.Client
	groups    *armresources.ResourceGroupsClient

	collections *armcompute.RestorePointCollectionsClient
	points      *armcompute.RestorePointsClient
	pointDisks  *armcompute.DiskRestorePointClient
}

// New makes a client. It reads the certificate files that the configuration names and makes no request.
func New(config azureconfig.Config, options Options) (*Client, error) {
	options = options.withDefaults()
	c := &Client{
		config: config, options: options, clock: options.Clock, log: options.Log,
		subscriptions: map[string]*subscription{},
	}
	var err error
	if c.transport, err = newTransport(config.CAFile, options.Wrap); err != nil {
		return nil, err
	}
	c.cloud = settingsFor(config)
	c.arm = &arm.ClientOptions{ClientOptions: c.clientOptions(), DisableRPRegistration: c.cloud.own}
	if c.credential, err = c.newCredential(); err != nil {
		return nil, err
	}
	if c.pipeline, err = arm.NewClient("holdfast", "v0.1.0", c.credential, c.arm); err != nil {
		return nil, holdfast.Wrap(holdfast.KindInvalid, err, "the Azure endpoints cannot be used")
	}
	return c, nil
}

func (o Options) withDefaults() Options {
	if o.Clock == nil {
		o.Clock = clock.System{}
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.PollEvery == 0 {
		o.PollEvery = 5 * time.Second
	}
	if o.Retry.Attempts == 0 {
		o.Retry.Attempts = 6
	}
	if o.Retry.Delay == 0 {
		o.Retry.Delay = time.Second
	}
	if o.Retry.DelayMax == 0 {
		o.Retry.DelayMax = 15 * time.Minute
	}
	return o
}

// clientOptions are those of every client of the SDK.
func (c *Client) clientOptions() policy.ClientOptions {
	return policy.ClientOptions{
		Cloud:     c.cloud.configuration,
		Transport: c.transport,
		Telemetry: policy.TelemetryOptions{ApplicationID: applicationID},
		Retry: policy.RetryOptions{
			MaxRetries:    int32(c.options.Retry.Attempts - 1),
			RetryDelay:    c.options.Retry.Delay,
			MaxRetryDelay: c.options.Retry.DelayMax,
		},
	}
}

// Limits of the transport.
const (
	connectionsIdleMax = 64 // per host; the default of 2 would open a new connection for almost every range
	dialTimeout        = 30 * time.Second
	answerTimeout      = 3 * time.Minute // until the headers come; Azure answers slow lists after up to two minutes
)

// newTransport makes the one transport that all clients share.
func newTransport(caFile string, wrap func(http.RoundTripper) http.RoundTripper) (*http.Client, error) {
	pool, err := x509.SystemCertPool()
	if err != nil {
		pool = x509.NewCertPool() // a machine without certificates can still use the configured file
	}
	if caFile != "" {
		pem, err := os.ReadFile(caFile)
		if err != nil {
			return nil, holdfast.Wrap(holdfast.KindInvalid, err, "the certificate file %s cannot be read", caFile).WithField("caFile")
		}
		if !pool.AppendCertsFromPEM(pem) {
			return nil, holdfast.Errorf(holdfast.KindInvalid, "%s holds no certificate", caFile).
				WithField("caFile").WithHint("a PEM file with at least one CERTIFICATE block is wanted")
		}
	}
	var transport http.RoundTripper = &http.Transport{
		Proxy:                 http.ProxyFromEnvironment,
		DialContext:           (&net.Dialer{Timeout: dialTimeout, KeepAlive: 30 * time.Second}).DialContext,
		TLSClientConfig:       &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12},
		TLSHandshakeTimeout:   dialTimeout,
		ResponseHeaderTimeout: answerTimeout,
		MaxIdleConnsPerHost:   connectionsIdleMax,
		IdleConnTimeout:       90 * time.Second,
		ForceAttemptHTTP2:     true,
	}
	if wrap != nil {
		transport = wrap(transport)
	}
	return &http.Client{Transport: transport}, nil
}

// in returns the clients of a subscription.
func (c *Client) in(id string) (*subscription, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if s, ok := c.subscriptions[id]; ok {
		return s, nil
	}
	compute, err := armcompute.NewClientFactory(id, c.credential, c.arm)
	if err != nil {
		return nil, holdfast.Wrap(holdfast.KindInternal, err, "the clients of subscription %s cannot be made", id)
	}
	resources, err := armresources.NewClientFactory(id, c.credential, c.arm)
	if err != nil {
		return nil, holdfast.Wrap(holdfast.KindInternal, err, "the clients of subscription %s cannot be made", id)
	}
	s := &subscription{
		machines:  compute.NewVirtualMachinesClient(),
		disks:     compute.NewDisksClient(),
		snapshots: compute.NewSnapshotsClient(),
		sizes:     compute.NewResourceSKUsClient(),
		usage:     compute.NewUsageClient(),
		resources: resources.NewClient(),
		groups:    resources.NewResourceGroupsClient(),

		collections: compute.NewRestorePointCollectionsClient(),
		points:      compute.NewRestorePointsClient(),
		pointDisks:  compute.NewDiskRestorePointClient(),
	}
	c.subscriptions[id] = s
	return s, nil
}

// CloseIdleConnections lets go of connections that nobody uses, so that a test sees no goroutine of theirs.
func (c *Client) CloseIdleConnections() { c.transport.CloseIdleConnections() }
