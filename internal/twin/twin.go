// Package twin is the simulated Azure as a whole: it wires Entra, ARM with its providers, Resource Graph, Key Vault, managed-disk data
// and the Blob service to two listeners on loopback, over state that survives restarts.
//
// It promises what a script may rely on: the same ports, tenant, credentials and CA in one folder for ever; one server for
// one folder; azure.yaml there as soon as requests are answered; a stop that waits for everything it started. It must never
// listen beyond loopback, since its secrets lie in a folder and its rules are made to be broken by tests. The parts keep
// their own promises; nothing is decided here but how they meet.
//
// The ARM listener speaks TLS and serves Entra, Resource Graph, Key Vault and the control API too. The data listener serves disks at
// /md-… and blobs at /{account}/…, and speaks plain HTTP and TLS on one port, told apart by a connection's first byte.
package twin

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"net/http"
	"os"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/clock"
	"github.com/holdfast-backup/holdfast/internal/twin/control"
	"github.com/holdfast-backup/holdfast/internal/twin/fault"
)

// AzureFile is the file in a twin's folder that --azure takes.
const AzureFile = "azure.yaml"

const (
	// stopGrace is how long Close lets requests finish before it cuts them.
	stopGrace = 5 * time.Second
	// headerTime bounds how long a connection may take to say what it wants.
	headerTime = 30 * time.Second
)

// newestDiskVersion is what the newest SDKs of this year send. Which versions the platform's disk endpoints accept is not
// known for certain (reference/azure.md §12); reports tell of refusals, so a strict twin is given export.DefaultMaxVersion,
// which the product keeps to. Unmodified SDKs, such as JavaScript's, cannot choose and need this one.
const newestDiskVersion = "2026-12-06"

// Config says what a twin is made of; Dir is required.
type Config struct {
	Dir        string // made if missing
	EstateFile string // what exists at the first start; "" for what Dir holds, or one empty subscription
	FaultFile  string // "" for no faults
	ARMAddr    string // loopback HOST:PORT; "" for the address of the last start, or any free port
	DataAddr   string // likewise
	DataTLS    bool   // SAS URLs of disks begin with https
	Clock      clock.Clock
	Log        *slog.Logger
	Options    Options
}

// Options change speed and strictness; the zero value is fast and as strict as the platform.
type Options struct {
	PollAfter       time.Duration // what pollers are asked to wait; 0 means 10 ms
	OperationTime   time.Duration // how long an operation takes; 0 means 5 ms
	CopyTime        time.Duration // background copy of Ultra and Premium v2 snapshots; 0 means 50 ms
	PageSize        int           // of lists; 0 means 100
	TokenLifetime   time.Duration // 0 means an hour
	RehydrateTime   time.Duration // from the archive tier; 0 means the platform's 15 hours, or one with high priority
	VaultTime       time.Duration // how long deleting and recovering a vault's key take; 0 means an instant
	DiskVersion     string        // newest x-ms-version that disk endpoints accept; "" means newestDiskVersion
	FragmentLimit   int           // ranges in one page list before it times out; 0 means no limit
	RateLimitsOff   bool          // no token buckets at ARM and Resource Graph
	SnapshotRateOff bool          // more than 7 snapshots of a disk in 5 minutes
}

// Endpoints is where a twin is reached.
type Endpoints struct {
	ResourceManager string // https URL, also Entra's
	Data            string // https URL of the data listener
	DataPlain       string // http URL of the same
	Blob            string // https URL with {account}
	KeyVault        string // https URL with {vault}
	AzureFile       string
	CAFile          string
}

// Twin is a running twin.
type Twin struct {
	config    Config
	identity  *identity
	endpoints Endpoints
	services  *services
	listening *listening
	lock      *os.File

	servers []*http.Server
	serving errgroup.Group
}

// Start starts a twin and returns when it answers requests and azure.yaml is written. ctx bounds the start alone; Close
// ends the twin. After an error nothing runs and nothing is locked; a folder whose estate could not be made takes another
// one.
func Start(ctx context.Context, config Config) (*Twin, error) {
	config.Clock = cmp.Or[clock.Clock](config.Clock, clock.System{})
	config.Log = cmp.Or(config.Log, slog.New(slog.DiscardHandler))
	declared, err := readEstate(config.EstateFile)
	if err != nil {
		return nil, err
	}
	var plan fault.Plan
	if config.FaultFile != "" {
		if plan, err = fault.Load(config.FaultFile); err != nil {
			return nil, err
		}
	}
	t := &Twin{config: config}
	if err := t.start(ctx, declared, plan); err != nil {
		return nil, errors.Join(err, t.stop(ctx), t.release())
	}
	return t, nil
}

func (t *Twin) start(ctx context.Context, declared *declaration, plan fault.Plan) error {
	if err := os.MkdirAll(t.config.Dir, 0o700); err != nil {
		return holdfast.Wrap(holdfast.KindUnavailable, err, "the twin's folder %s cannot be made", t.config.Dir)
	}
	var err error
	if t.lock, err = lockFolder(t.config.Dir); err != nil {
		return err
	}
	if t.identity, err = openIdentity(t.config.Dir); err != nil {
		return err
	}
	if err := t.identity.declare(declared); err != nil {
		return err
	}
	if t.listening, err = listen(t.config, t.identity); err != nil {
		return err
	}
	t.endpoints = t.listening.endpoints(t.config.Dir)
	if t.services, err = openServices(t.config, t.identity, t.endpoints, plan); err != nil {
		return err
	}
	if err := t.services.seed(ctx, t.identity, declared); err != nil {
		return err
	}
	t.serve()
	return t.announce()
}

// serve begins to answer.
func (t *Twin) serve() {
	newServer := func(handler http.Handler) *http.Server {
		server := &http.Server{
			Handler: handler, ReadHeaderTimeout: headerTime,
			ErrorLog: slog.NewLogLogger(t.config.Log.Handler(), slog.LevelDebug), // handshakes that clients give up
		}
		t.servers = append(t.servers, server)
		return server
	}
	management, data := newServer(t.services.management()), newServer(t.services.data())
	t.serving.Go(func() error { return management.Serve(t.listening.management) })
	t.serving.Go(func() error { return data.Serve(t.listening.split.Plain()) })
	t.serving.Go(func() error { return data.Serve(t.listening.secureData) })
	t.serving.Go(t.listening.split.Run)
}

// announce writes the files by which others find the twin.
func (t *Twin) announce() error {
	if err := control.WriteAccess(t.config.Dir, control.Access{URL: t.endpoints.ResourceManager, Token: t.identity.ControlToken}); err != nil {
		return err
	}
	return control.WritePrivately(t.endpoints.AzureFile, t.identity.azureFile(t.endpoints))
}

// Endpoints tells where the twin is reached.
func (t *Twin) Endpoints() Endpoints { return t.endpoints }

// Faults returns the engine that spoils answers, for tests in the same process.
func (t *Twin) Faults() *fault.Engine { return t.services.faults }

// Close stops answering, waits for requests under way until ctx ends or the grace of five seconds is over, and releases
// the folder. It may be called again.
func (t *Twin) Close(ctx context.Context) error {
	return errors.Join(t.stop(ctx), t.release())
}

func (t *Twin) stop(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, stopGrace)
	defer cancel()
	var problems error
	for _, server := range t.servers {
		if err := server.Shutdown(ctx); err != nil {
			problems = errors.Join(problems, server.Close()) // the grace is over: cut what is left
		}
	}
	if len(t.servers) > 0 {
		problems = errors.Join(problems, t.listening.split.Close(), control.RemoveAccess(t.config.Dir))
		if err := t.serving.Wait(); !errors.Is(err, http.ErrServerClosed) && err != nil {
			problems = errors.Join(problems, err)
		}
	}
	t.servers = nil
	return problems
}

// release gives back what start took, as far as it came.
func (t *Twin) release() error {
	var problems error
	if t.services != nil {
		problems = errors.Join(problems, t.services.close())
		t.services = nil
	}
	if t.listening != nil {
		t.listening.close()
		t.listening = nil
	}
	if t.lock != nil {
		problems = errors.Join(problems, t.lock.Close())
		t.lock = nil
	}
	return problems
}
