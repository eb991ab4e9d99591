package twin

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"path/filepath"
	"strings"
	"time"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/twin/arm"
	"github.com/holdfast-backup/holdfast/internal/twin/blobsvc"
	"github.com/holdfast-backup/holdfast/internal/twin/compute"
	"github.com/holdfast-backup/holdfast/internal/twin/control"
	"github.com/holdfast-backup/holdfast/internal/twin/entra"
	"github.com/holdfast-backup/holdfast/internal/twin/estate"
	"github.com/holdfast-backup/holdfast/internal/twin/export"
	"github.com/holdfast-backup/holdfast/internal/twin/fault"
	"github.com/holdfast-backup/holdfast/internal/twin/graph"
	"github.com/holdfast-backup/holdfast/internal/twin/guest"
	"github.com/holdfast-backup/holdfast/internal/twin/keyvault"
	"github.com/holdfast-backup/holdfast/internal/twin/network"
	"github.com/holdfast-backup/holdfast/internal/twin/restorepoint"
	"github.com/holdfast-backup/holdfast/internal/twin/state"
	"github.com/holdfast-backup/holdfast/internal/twin/storageaccount"
	"github.com/holdfast-backup/holdfast/internal/twin/vdisk"
)

// services are the parts of a twin, in the order in which they need each other.
type services struct {
	config    Config
	endpoints Endpoints
	faults    *fault.Engine
	entra     *entra.Service
	state     *state.Store
	volumes   *vdisk.Store
	exports   *export.Service
	blobs     *blobsvc.Service
	vaults    *keyvault.Service
	arm       *arm.Server
	compute   *compute.Provider
	guests    *guest.Service
	points    *restorepoint.Provider
	graph     *graph.Service
	control   *control.Server
}

// openServices opens everything over the state in the folder. After an error nothing stays open.
func openServices(config Config, i *identity, e Endpoints, plan fault.Plan) (*services, error) {
	s := &services{config: config, endpoints: e}
	var err error
	if s.faults, err = fault.New(plan, config.Clock); err != nil {
		return nil, err
	}
	for _, step := range []func(*identity) error{s.openIdentityProvider, s.openStores, s.openBlobs, s.openVaults, s.openManagement, s.openGuests, s.openGraph, s.openControl} {
		if err := step(i); err != nil {
			return nil, errors.Join(err, s.close())
		}
	}
	return s, nil
}

func (s *services) folder(name string) string { return filepath.Join(s.config.Dir, name) }

func (s *services) openIdentityProvider(i *identity) (err error) {
	s.entra, err = entra.New(entra.Config{
		KeyFile: s.folder("entra-key.pem"), Clock: s.config.Clock, Tenant: i.TenantID, Lifetime: s.config.Options.TokenLifetime,
		BaseURL:   func() string { return s.endpoints.ResourceManager },
		Audiences: func() []string { return []string{s.endpoints.ResourceManager} },
	})
	if err != nil {
		return err
	}
	s.entra.Register(entra.Application{ClientID: i.ClientID, ObjectID: i.ObjectID, Secret: i.ClientSecret})
	return nil
}

func (s *services) openStores(*identity) (err error) {
	if s.state, err = state.Open(s.folder("state")); err != nil {
		return err
	}
	if s.volumes, err = vdisk.Open(s.folder("volumes")); err != nil {
		return err
	}
	s.exports, err = export.Open(export.Config{
		Dir: s.folder("exports"), Volumes: s.volumes, Clock: s.config.Clock, FragmentLimit: s.config.Options.FragmentLimit,
		MaxVersion: cmp.Or(s.config.Options.DiskVersion, newestDiskVersion),
		BaseURL: func() string {
			if s.config.DataTLS {
				return s.endpoints.Data
			}
			return s.endpoints.DataPlain
		},
		Authorize:        func(r *http.Request) error { return s.verify(r, entra.AudienceDisk) },
		AuthorizationURI: func() string { return s.endpoints.ResourceManager + "/common/oauth2/authorize" },
	})
	return err
}

func (s *services) openBlobs(*identity) (err error) {
	s.blobs, err = blobsvc.Open(blobsvc.Config{
		Dir: s.folder("blobs"), Clock: s.config.Clock, Verify: s.verify, BaseURL: func() string { return s.endpoints.Data },
		RehydrateStandard: s.config.Options.RehydrateTime, RehydrateHigh: s.config.Options.RehydrateTime,
	})
	return err
}

func (s *services) openVaults(i *identity) (err error) {
	s.vaults, err = keyvault.New(keyvault.Config{
		State: s.state, Clock: s.config.Clock, Verify: s.verify, SettleTime: s.config.Options.VaultTime,
		Authority: func() string { return s.endpoints.ResourceManager + "/" + i.TenantID },
		BaseURL:   func() string { return s.endpoints.ResourceManager },
	})
	return err
}

func (s *services) openManagement(i *identity) (err error) {
	options := s.config.Options
	s.arm, err = arm.New(arm.Config{
		State: s.state, Clock: s.config.Clock, TenantID: i.TenantID, PublicURL: func() string { return s.endpoints.ResourceManager },
		Authenticate: s.authenticateForARM, Limits: arm.Limits{Off: options.RateLimitsOff}, PageSize: options.PageSize,
		OperationTime: options.OperationTime, PollAfter: options.PollAfter,
	})
	if err != nil {
		return err
	}
	network.Register(s.arm)
	storageaccount.Register(s.arm, storageaccount.Config{
		BlobEndpoint: func(account string) string { return s.endpoints.Data + "/" + account + "/" },
		Created:      s.blobs.CreateAccount,
	})
	s.compute, err = compute.New(compute.Config{
		ARM: s.arm, State: s.state, Clock: s.config.Clock, Volumes: s.volumes, Exports: s.exports, CopyTime: options.CopyTime, Log: s.config.Log,
	})
	if err != nil {
		return err
	}
	s.compute.SetSnapshotRate(!options.SnapshotRateOff)
	return nil
}

// openGuests makes what needs both machines and disks: what runs in the machines, and the points made of them.
func (s *services) openGuests(*identity) (err error) {
	if s.guests, err = guest.Register(guest.Config{ARM: s.arm, State: s.state, Clock: s.config.Clock, Volumes: s.volumes}); err != nil {
		return err
	}
	s.points, err = restorepoint.Register(restorepoint.Config{
		ARM: s.arm, Disks: s.compute, Volumes: s.volumes, Quiesce: s.guests.Quiesce, Log: s.config.Log,
	})
	if err == nil {
		s.points.SetRate(!s.config.Options.SnapshotRateOff)
	}
	return err
}

func (s *services) openGraph(i *identity) (err error) {
	s.graph, err = graph.New(graph.Config{
		Resources: s.graphRows, Authenticate: s.authenticateForGraph, Clock: s.config.Clock, TenantID: i.TenantID,
	})
	if err == nil && s.config.Options.RateLimitsOff {
		s.graph.SetLimits(graph.LimitsOff)
	}
	return err
}

func (s *services) openControl(i *identity) (err error) {
	s.control, err = control.NewServer(control.Config{
		Token: i.ControlToken, Clock: s.config.Clock, Volumes: s.volumes, Faults: s.faults, Volume: s.compute.DiskVolume, Resize: s.compute.ResizeDisk,
		Delete: s.compute.DeleteResource, Resources: s.resources, Apply: s.apply, Vaults: s.vaults, Guests: s.guests,
	})
	return err
}

func (s *services) close() error {
	var problems error
	if s.blobs != nil {
		problems = errors.Join(problems, s.blobs.Close())
	}
	if s.volumes != nil {
		problems = errors.Join(problems, s.volumes.Close())
	}
	if s.state != nil {
		problems = errors.Join(problems, s.state.Close())
	}
	return problems
}

// seed makes the estate, at the first start alone, and the blob side of all accounts. A folder whose estate is refused is
// free for another one.
func (s *services) seed(ctx context.Context, i *identity, declared *declaration) error {
	if !i.Seeded {
		if err := s.makeEstate(ctx, declared); err != nil {
			return errors.Join(err, i.undeclare())
		}
	}
	for _, account := range storageaccount.Accounts(s.state.View()) {
		if err := s.blobs.CreateAccount(account.Name, account.Key); err != nil {
			return err
		}
	}
	if i.Seeded {
		return nil
	}
	if declared != nil {
		if err := s.seedData(declared.Estate); err != nil {
			return err
		}
	}
	i.Seeded = true
	return i.save()
}

// seedData makes what ARM does not show: containers, and vaults with their keys.
func (s *services) seedData(e estate.Estate) error {
	for _, account := range e.StorageAccounts {
		for _, container := range account.Containers {
			if err := s.blobs.CreateContainer(account.Name, container.Name, container.VersionImmutability); err != nil {
				return err
			}
		}
	}
	for _, vault := range e.KeyVaults {
		permissions := vault.Permissions
		if permissions == nil {
			permissions = keyvault.AllPermissions()
		}
		if err := s.vaults.CreateVault(vault.Name, permissions); err != nil {
			return err
		}
		for _, key := range vault.Keys {
			if err := s.vaults.CreateKey(vault.Name, key.Name, key.Bits); err != nil {
				return err
			}
		}
	}
	return nil
}

func (s *services) makeEstate(ctx context.Context, declared *declaration) error {
	if declared != nil {
		if err := s.compute.Seed(ctx, declared.Estate, declared.folder); err != nil {
			return err
		}
		return s.guests.Seed(declared.Estate)
	}
	return s.state.Update(func(tx *state.Tx) error {
		arm.EnsureSubscription(tx, arm.Subscription{ID: "11111111-1111-1111-1111-111111111111", Name: "twin"}, s.config.Clock.Now())
		return nil
	})
}

// management serves the ARM listener.
func (s *services) management() http.Handler {
	identityProvider := s.faults.Middleware(fault.Entra, s.entra.Handler())
	inventory := s.faults.Middleware(fault.ARM, s.graph.Handler())
	resources := s.faults.Middleware(fault.ARM, s.arm.Handler())
	vaults := s.faults.Middleware(fault.Vault, s.vaults.Handler())
	backDoor := s.control.Handler()
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case strings.HasPrefix(r.URL.Path, control.Prefix):
			backDoor.ServeHTTP(w, r)
		case entra.Owns(r.URL.Path):
			identityProvider.ServeHTTP(w, r)
		case keyvault.Owns(r.URL.Path):
			vaults.ServeHTTP(w, r)
		case graph.Owns(r.URL.Path):
			inventory.ServeHTTP(w, r)
		default:
			resources.ServeHTTP(w, r)
		}
	})
}

// data serves the data listener. A storage account's name has no hyphen, so that the two cannot be mistaken where it stands
// in the path; where the host names it, a container may well be called md-….
func (s *services) data() http.Handler {
	disks := s.faults.Middleware(fault.Disk, s.exports.Handler())
	blobs := s.faults.Middleware(fault.Blob, s.blobs.Handler())
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.URL.Path, "/md-") && !s.blobs.OwnsHost(r.Host) {
			disks.ServeHTTP(w, r)
			return
		}
		blobs.ServeHTTP(w, r)
	})
}

func (s *services) verify(r *http.Request, audiences ...string) error {
	_, err := s.entra.Verify(r, audiences...)
	return err
}

func (s *services) verifyForARM(r *http.Request) (string, *entra.Refusal) {
	claims, err := s.entra.Verify(r, entra.AudienceARM, entra.AudienceARMLegacy, s.endpoints.ResourceManager)
	if err == nil {
		return claims.Principal, nil
	}
	refusal := &entra.Refusal{Status: http.StatusUnauthorized, Code: "InvalidAuthenticationToken", Message: err.Error()}
	errors.As(err, &refusal)
	return "", refusal
}

func (s *services) authenticateForARM(r *http.Request) (string, error) {
	principal, refusal := s.verifyForARM(r)
	if refusal == nil {
		return principal, nil
	}
	return "", &arm.Error{Status: refusal.Status, Code: refusal.Code, Message: refusal.Message, Header: http.Header{"Www-Authenticate": {refusal.Challenge}}}
}

func (s *services) authenticateForGraph(r *http.Request) (string, error) {
	principal, refusal := s.verifyForARM(r)
	if refusal == nil {
		return principal, nil
	}
	return "", &graph.Error{Status: refusal.Status, Code: refusal.Code, Message: refusal.Message, Header: http.Header{"Www-Authenticate": {refusal.Challenge}}}
}

// graphRows renders subscriptions, groups and their resources as ARM would. Children and extensions, such as subnets and
// locks, have no rows in Resource Graph's tables.
func (s *services) graphRows(context.Context) ([]graph.Resource, error) {
	if err := s.arm.Settle(); err != nil {
		return nil, err
	}
	view := s.state.View()
	var rows []graph.Resource
	for doc := range view.Below("/subscriptions/") {
		parts := strings.Split(strings.Trim(doc.ID, "/"), "/")
		isRow := len(parts) == 2 || (len(parts) == 4 || len(parts) == 8) && strings.EqualFold(parts[2], "resourceGroups")
		if !isRow || doc.Body == nil || len(parts) == 8 && strings.EqualFold(parts[5], "Microsoft.Authorization") {
			continue
		}
		document, err := plainJSON(s.arm.Render(view, doc))
		if err != nil {
			return nil, err
		}
		rows = append(rows, graph.Resource{Document: document, Created: doc.Created})
	}
	return rows, nil
}

// plainJSON turns a document into nothing but maps, lists and scalars.
func plainJSON(document state.Object) (map[string]any, error) {
	text, err := json.Marshal(document)
	if err != nil {
		return nil, holdfast.Wrap(holdfast.KindInternal, err, "a resource cannot be written as JSON")
	}
	var plain map[string]any
	if err := json.Unmarshal(text, &plain); err != nil {
		return nil, holdfast.Wrap(holdfast.KindInternal, err, "a resource cannot be read back from JSON")
	}
	return plain, nil
}

func (s *services) resources() ([]control.Resource, error) {
	existing, err := s.compute.Resources()
	if err != nil {
		return nil, err
	}
	listed := make([]control.Resource, len(existing))
	for i, resource := range existing {
		listed[i] = control.Resource(resource)
	}
	return listed, nil
}

// apply carries out settings of the control API.
func (s *services) apply(settings control.Settings) error {
	if on := settings.Limits; on != nil {
		s.arm.SetLimits(arm.Limits{Off: !*on})
		s.graph.SetLimits(graph.Limits(*on))
	}
	if on := settings.SnapshotRate; on != nil {
		s.compute.SetSnapshotRate(*on)
		s.points.SetRate(*on)
	}
	if ms := settings.LatenessMs; ms != nil {
		s.arm.SetLateness(time.Duration(*ms) * time.Millisecond)
	}
	if ms := settings.CopyMs; ms != nil {
		s.compute.SetCopyTime(time.Duration(*ms) * time.Millisecond)
	}
	if ms := settings.TokenLifeMs; ms != nil {
		s.entra.SetLifetime(time.Duration(*ms) * time.Millisecond)
	}
	return nil
}
