// Package repositories opens the repositories that the documents declare, for servers and workers: their stores, under the passwords that lie
// sealed in the database or the keys in vaults, in the name of the installation.
//
// It promises that a repository is opened once and shared, that one which belongs to another installation is refused before anything is
// written, and that a change of its address or its password counts from the next use on. It must never log or return a password; a recovery
// code is returned once, by Connect.
package repositories

import (
	"context"
	"log/slog"
	"sync"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/azure"
	"github.com/holdfast-backup/holdfast/internal/azure/vaultkey"
	"github.com/holdfast-backup/holdfast/internal/clock"
	"github.com/holdfast-backup/holdfast/internal/database"
	"github.com/holdfast-backup/holdfast/internal/protection"
	"github.com/holdfast-backup/holdfast/internal/repo"
	"github.com/holdfast-backup/holdfast/internal/storage"
	"github.com/holdfast-backup/holdfast/internal/store"
	"github.com/holdfast-backup/holdfast/internal/view"
)

// Config says what to work with. All fields are required.
type Config struct {
	Database     *database.DB
	Secrets      *Secrets
	Azure        *azure.Client
	Installation string // its id, which owns the repositories
	Clock        clock.Clock
	Log          *slog.Logger
	Tool         string // name and version of the program
}

// Repositories opens repositories. Safe for concurrent use.
type Repositories struct {
	config   Config
	intended protection.Cache

	mu   sync.Mutex
	open map[string]*opened // by name; guarded by mu
}

// opened is a repository that is open, or is being opened.
type opened struct {
	spec       holdfast.RepositorySpec
	ready      chan struct{} // closed when what follows is known
	repository *repo.Repository
	store      storage.Store
	err        error
}

// New makes it.
func New(config Config) *Repositories {
	return &Repositories{config: config, open: map[string]*opened{}}
}

// SecretOf names the password of a repository.
func SecretOf(name string) string { return "repository/" + name }

// Open implements flows.Repositories.
func (r *Repositories) Open(ctx context.Context, name string) (*repo.Repository, error) {
	o, err := r.get(ctx, name)
	if err != nil {
		return nil, err
	}
	return o.repository, nil
}

// Collector implements flows.Repositories.
func (r *Repositories) Collector(ctx context.Context, name string) (*repo.Collector, error) {
	o, err := r.get(ctx, name)
	if err != nil {
		return nil, err
	}
	if err := o.repository.Refresh(ctx); err != nil {
		return nil, err
	}
	return repo.NewCollector(o.repository, o.store.Remover), nil
}

// get returns a repository, opened by whoever asked first.
func (r *Repositories) get(ctx context.Context, name string) (*opened, error) {
	spec, err := r.spec(ctx, name)
	if err != nil {
		return nil, err
	}
	r.mu.Lock()
	o := r.open[name]
	mine := o == nil || o.spec != spec
	if mine {
		o = &opened{spec: spec, ready: make(chan struct{})}
		r.open[name] = o
	}
	r.mu.Unlock()
	if mine {
		o.repository, o.store, o.err = r.openAs(ctx, spec)
		close(o.ready)
	}
	select {
	case <-o.ready:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if o.err != nil {
		r.drop(name, o) // the next one tries again
	}
	return o, o.err
}

// drop forgets a repository, unless another one has taken its place.
func (r *Repositories) drop(name string, o *opened) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.open[name] == o {
		delete(r.open, name)
	}
}

// Forget implements control.Repositories.
func (r *Repositories) Forget(name string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.open, name)
}

// spec is what the documents in force say of a repository.
func (r *Repositories) spec(ctx context.Context, name string) (spec holdfast.RepositorySpec, err error) {
	err = r.config.Database.Read(ctx, func(ctx context.Context, q store.Query) error {
		s, err := r.intended.Load(ctx, q)
		if err != nil {
			return err
		}
		known := false
		if spec, known = s.Documents.Repository(name); !known {
			return holdfast.Errorf(holdfast.KindNotFound, "the repository %q is not declared", name)
		}
		return nil
	})
	return spec, err
}

// openAs opens a repository as the documents declare it.
func (r *Repositories) openAs(ctx context.Context, spec holdfast.RepositorySpec) (*repo.Repository, storage.Store, error) {
	password := ""
	if spec.KeyID == "" {
		var err error
		password, err = r.password(ctx, spec)
		if err != nil {
			return nil, storage.Store{}, err
		}
	}
	s, err := r.store(ctx, spec)
	if err != nil {
		return nil, s, err
	}
	opened, err := r.openIn(ctx, s, spec, password)
	if err != nil {
		return nil, s, err
	}
	if o := opened.Ownership(); o.Owner != r.config.Installation {
		return nil, s, r.errOwner(spec, o.Owner)
	}
	return opened, s, nil
}

func (r *Repositories) errOwner(spec holdfast.RepositorySpec, owner string) error {
	if owner == "" {
		owner = "nobody"
	}
	return holdfast.Errorf(holdfast.KindRefused, "the repository %q belongs to %s, and this is the installation %s", spec.Name, owner, r.config.Installation).WithField("repository").
		WithHint("if that installation is no more, take the repository over: holdfast repo owner take-over --repo %s --owner %s --from %s", spec.URL, r.config.Installation, owner)
}

// password finds the password of a repository: what was given when it was connected, or what its document names in a vault.
func (r *Repositories) password(ctx context.Context, spec holdfast.RepositorySpec) (string, error) {
	secret, err := r.config.Secrets.Secret(ctx, SecretOf(spec.Name))
	if !holdfast.IsKind(err, holdfast.KindNotFound) {
		return secret, err
	}
	if !spec.Encrypted {
		return "", nil
	}
	if spec.Password.VaultSecret != "" {
		return "", holdfast.Errorf(holdfast.KindInvalid, "the repository %q names a secret in a vault, and secrets in vaults are not read", spec.Name).WithField("passwordFrom").
			WithHint("name a key instead, which never leaves its vault: vaultKey: https://VAULT/keys/NAME; or a file or a variable of the environment")
	}
	return "", holdfast.Errorf(holdfast.KindWrongKey, "the password of the repository %q is not known", spec.Name).WithField("password").
		WithHint("give it with: holdfast apply, where the document has passwordFrom with a file or a variable of the environment")
}

func (r *Repositories) store(ctx context.Context, spec holdfast.RepositorySpec) (storage.Store, error) {
	s, err := storage.Open(ctx, spec.URL, storage.Options{Azure: func() (*azure.Client, error) { return r.config.Azure, nil }, Clock: r.config.Clock})
	if err != nil {
		return s, err
	}
	if spec.Immutable && s.Locker == nil {
		return s, holdfast.Errorf(holdfast.KindInvalid, "the repository %q is to be immutable, and %s cannot lock objects", spec.Name, spec.URL).WithField("immutable").
			WithHint("use a container with version-level immutability, or leave immutable out")
	}
	return s, nil
}

func (r *Repositories) openIn(ctx context.Context, s storage.Store, spec holdfast.RepositorySpec, password string) (*repo.Repository, error) {
	return repo.Open(ctx, s.Objects, repo.OpenOptions{
		Password: password, Vault: vaults{r.config.Azure}, Installation: r.config.Installation, Clock: r.config.Clock, Tool: r.config.Tool, Log: r.config.Log.With("repository", spec.Name),
	})
}

// Connect implements control.Repositories.
func (r *Repositories) Connect(ctx context.Context, spec holdfast.RepositorySpec, secret string, mayMake bool) (view.Connected, error) {
	c := view.Connected{Name: spec.Name, URL: spec.URL}
	if secret == "" && spec.KeyID == "" {
		var err error
		if secret, err = r.password(ctx, spec); err != nil {
			return c, err
		}
	}
	s, err := r.store(ctx, spec)
	if err != nil {
		return c, err
	}
	there, err := storage.HoldsRepository(ctx, s.Objects)
	if err != nil {
		return c, err
	}
	if !there && !mayMake {
		return c, holdfast.Errorf(holdfast.KindNotFound, "there is no repository at %s, and restore points are written down in the one called %q", spec.URL, spec.Name).WithField("url").
			WithHint("copy its storage there first, or declare another repository under a new name")
	}
	if !there {
		if err := r.create(ctx, s, spec, secret); err != nil {
			return c, err
		}
		c.Created = true
	}
	opened, err := r.openIn(ctx, s, spec, secret)
	if err != nil {
		return c, err
	}
	info, err := opened.Info(ctx)
	if err != nil {
		return c, err
	}
	c.ID = info.ID
	if fresh := opened.Ownership().Owner == "" && info.Points == 0; fresh && spec.Encrypted {
		if c.RecoveryCode, err = recoveryCode(ctx, opened); err != nil {
			return c, err
		}
	}
	err = r.own(ctx, opened, spec)
	r.Forget(spec.Name) // it is opened anew under the new password
	return c, err
}

// recoveryLabel names the slot of the code on paper.
const recoveryLabel = "recovery code"

// recoveryCode draws a code that opens a repository which nobody owns yet, in place of one that was drawn and perhaps never told.
func recoveryCode(ctx context.Context, opened *repo.Repository) (string, error) {
	keys, err := opened.Keys(ctx)
	if err != nil {
		return "", err
	}
	slot := repo.NewSlot{Label: recoveryLabel, RecoveryCode: true}
	for _, s := range keys.Slots {
		if s.Current && s.Label == recoveryLabel {
			slot.Replaces, slot.Label = s.ID, recoveryLabel+" 2"
		}
	}
	change, err := opened.AddSlot(ctx, slot)
	return change.RecoveryCode, err
}

// create makes a repository where there is none.
func (r *Repositories) create(ctx context.Context, s storage.Store, spec holdfast.RepositorySpec, secret string) error {
	if err := storage.MustBeEmpty(ctx, s.Objects); err != nil {
		return err
	}
	_, err := repo.Init(ctx, s.Objects, repo.InitOptions{
		Password: secret, VaultKey: spec.KeyID, Vault: vaults{r.config.Azure}, Unencrypted: !spec.Encrypted, Label: "server", Clock: r.config.Clock, Tool: r.config.Tool,
	})
	return err
}

// own takes a repository that nobody owns, and refuses one that somebody else does.
func (r *Repositories) own(ctx context.Context, opened *repo.Repository, spec holdfast.RepositorySpec) error {
	switch owner := opened.Ownership().Owner; owner {
	case r.config.Installation:
		return nil
	case "":
		_, err := opened.TakeOver(ctx, "")
		return err
	default:
		return r.errOwner(spec, owner)
	}
}

// Inspect implements control.Repositories.
func (r *Repositories) Inspect(ctx context.Context, name string) (id, owner string, err error) {
	o, err := r.get(ctx, name)
	if err != nil {
		return "", "", err
	}
	if err := o.repository.Refresh(ctx); err != nil {
		return "", "", err
	}
	info, err := o.repository.Info(ctx)
	return info.ID, info.Owner, err
}

// vaults gives repositories the keys in vaults.
type vaults struct{ client *azure.Client }

// Wrap implements repo.Vault.
func (v vaults) Wrap(ctx context.Context, keyID string, plain []byte) (repo.WrappedKey, error) {
	vault, err := v.client.KeyVaults()
	if err != nil {
		return repo.WrappedKey{}, err
	}
	w, err := vault.Wrap(ctx, keyID, plain)
	return repo.WrappedKey(w), err
}

// Unwrap implements repo.Vault.
func (v vaults) Unwrap(ctx context.Context, w repo.WrappedKey) ([]byte, error) {
	vault, err := v.client.KeyVaults()
	if err != nil {
		return nil, err
	}
	return vault.Unwrap(ctx, vaultkey.Wrapped(w))
}
