package main

import (
	"context"
	"errors"
	"log/slog"
	"runtime/debug"

	"github.com/spf13/cobra"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/azure"
	"github.com/holdfast-backup/holdfast/internal/azureconfig"
	"github.com/holdfast-backup/holdfast/internal/blob/wrap"
	"github.com/holdfast-backup/holdfast/internal/cli/command"
	"github.com/holdfast-backup/holdfast/internal/repo"
	"github.com/holdfast-backup/holdfast/internal/storage"
)

// version is the module's version as the Go tool recorded it.
func version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok || info.Main.Version == "" || info.Main.Version == "(devel)" {
		return "devel"
	}
	return info.Main.Version
}

// azureFlag adds --azure.
func (a *app) azureFlag(cmd *cobra.Command) { command.AzureFlag(cmd, &a.azureFile) }

// repoFlags adds what every command on a repository takes.
func (a *app) repoFlags(cmd *cobra.Command) {
	cmd.Flags().StringVar(&a.repository, "repo", "", "where the repository is: a folder, file:///FOLDER or azblob://ACCOUNT/CONTAINER/FOLDER")
	cmd.Flags().StringVar(&a.passwordFile, "password-file", "", "file with the repository's password (or HOLDFAST_REPO_PASSWORD with the password itself)")
	cmd.Flags().StringVar(&a.owner, "owner", "", "installation that the command writes as, where the repository has an owner (or HOLDFAST_OWNER)")
	a.azureFlag(cmd)
	command.Required(cmd, "repo")
}

// writeFlags are the flags of commands that write restore points.
func (a *app) writeFlags(cmd *cobra.Command) {
	cmd.Flags().StringVar(&a.compression, "compression", string(repo.CompressionDefault), "effort spent on making data smaller: fast, default or better")
}

// azureClient makes the client that --azure describes.
func (a *app) azureClient() (*azure.Client, error) {
	path := a.azureFile
	if path == "" {
		path = a.getenv("HOLDFAST_AZURE")
	}
	if path == "" {
		return nil, holdfast.Errorf(holdfast.KindInvalid, "--azure is missing: the file that says which Azure to work with").WithField("azure").
			WithHint("the twin writes one (DIR/azure.yaml); for real Azure write tenantId, clientId and clientSecret into a file")
	}
	config, err := azureconfig.Read(path)
	if err != nil {
		return nil, err
	}
	return azure.New(config, azure.Options{Clock: a.clock, Log: a.log()})
}

// cloudInventory takes stock of what the cloud holds that a file describes.
func (a *app) cloudInventory(ctx context.Context, azureFile string) (holdfast.Inventory, error) {
	a.azureFile = azureFile
	client, err := a.azureClient()
	if err != nil {
		return holdfast.Inventory{}, err
	}
	defer client.CloseIdleConnections()
	return client.Inventory(ctx)
}

// log returns the logger for people: warnings on standard error. HOLDFAST_LOG=debug shows everything.
func (a *app) log() *slog.Logger {
	level := slog.LevelError
	if a.getenv("HOLDFAST_LOG") == "debug" {
		level = slog.LevelDebug
	}
	return slog.New(slog.NewTextHandler(a.console.Err, &slog.HandlerOptions{Level: level}))
}

// password returns the repository's password, "" when none was given.
func (a *app) password() (string, error) {
	if a.passwordFile == "" {
		return a.getenv("HOLDFAST_REPO_PASSWORD"), nil
	}
	return passwordIn(a.passwordFile, "password-file")
}

// store opens the store that --repo names. Nothing is created.
func (a *app) store(ctx context.Context) (storage.Store, error) {
	return storage.Open(ctx, a.repository, storage.Options{Azure: a.azureClient, Clock: a.clock})
}

// openRepository opens the repository that --repo names with the password that was given.
func (a *app) openRepository(ctx context.Context) (*repo.Repository, error) {
	store, err := a.store(ctx)
	if err != nil {
		return nil, err
	}
	return a.openIn(ctx, store)
}

// openIn opens the repository in a store.
func (a *app) openIn(ctx context.Context, store storage.Store) (*repo.Repository, error) {
	password, err := a.password()
	if err != nil {
		return nil, err
	}
	compression, err := a.compressionWanted()
	if err != nil {
		return nil, err
	}
	if id := a.installation(); id != "" {
		if err := repo.CheckInstallation(id); err != nil {
			return nil, err
		}
	}
	r, err := repo.Open(ctx, wrap.Count(store.Objects, &a.added), repo.OpenOptions{
		Password: password, Vault: a.vault(), Installation: a.installation(), Clock: a.clock, Tool: tool(), Log: a.log(), Compression: compression,
	})
	if err != nil {
		return nil, withOpenHint(err, store.Objects.URL())
	}
	for _, p := range r.Damage() {
		a.console.Note("Warning: %s is damaged (%s); restoring works, writing does not", p.Object, p.Text)
	}
	return r, nil
}

// withOpenHint says what to do when a repository does not open, where the error does not say so itself.
func withOpenHint(err error, url string) error {
	var e *holdfast.Error
	if !errors.As(err, &e) || e.Hint != "" {
		return err
	}
	switch e.Kind {
	case holdfast.KindWrongKey:
		return e.WithField("password-file").WithHint("give a password, recovery code or vault key that opens the repository, by --password-file FILE, HOLDFAST_REPO_PASSWORD or --azure FILE; without one nobody can read it")
	case holdfast.KindCorrupt:
		return e.WithHint("bring the damaged object back from a copy of the storage; see what is hit with: holdfast repo verify --repo %s", url)
	default:
		return err
	}
}

// tool names the writer in manifests.
func tool() string { return "holdfast " + version() }

// compressionWanted returns what --compression says, where the command has it.
func (a *app) compressionWanted() (repo.Compression, error) {
	if a.compression == "" {
		return repo.CompressionDefault, nil
	}
	return repo.ParseCompression(a.compression)
}
