package sim

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/blob/file"
	"github.com/holdfast-backup/holdfast/internal/clock"
	"github.com/holdfast-backup/holdfast/internal/repo"
)

// password opens the repositories of simulations, which hold nothing that is a secret.
const password = "simulation"

// repositories lie in a folder, each under its name, wherever the documents say that it is. One is made when it is opened first.
type repositories struct {
	folder string
	clock  clock.Clock
	log    *slog.Logger
	open   map[string]*opened
}

type opened struct {
	repository *repo.Repository
	store      *file.Store
}

func newRepositories(folder string, c clock.Clock, log *slog.Logger) *repositories {
	return &repositories{folder: folder, clock: c, log: log, open: map[string]*opened{}}
}

// Open implements flows.Repositories.
func (r *repositories) Open(ctx context.Context, name string) (*repo.Repository, error) {
	o, err := r.get(ctx, name)
	if err != nil {
		return nil, err
	}
	return o.repository, nil
}

// Collector implements flows.Repositories.
func (r *repositories) Collector(ctx context.Context, name string) (*repo.Collector, error) {
	o, err := r.get(ctx, name)
	if err != nil {
		return nil, err
	}
	return repo.NewCollector(o.repository, o.store.Remover()), nil
}

func (r *repositories) get(ctx context.Context, name string) (*opened, error) {
	if o, known := r.open[name]; known {
		return o, nil
	}
	folder := filepath.Join(r.folder, name)
	if err := os.MkdirAll(r.folder, 0o700); err != nil {
		return nil, holdfast.Wrap(holdfast.KindInvalid, err, "the folder of the simulation's repositories cannot be made")
	}
	store, err := file.Open(folder, file.Options{NoSync: true})
	if err != nil {
		return nil, err
	}
	cheap := repo.KDFCost{Time: 1, MemoryKiB: 8, Threads: 1}
	_, err = repo.Init(ctx, store, repo.InitOptions{Password: password, KDF: cheap, Clock: r.clock})
	if err != nil && !holdfast.IsKind(err, holdfast.KindConflict) {
		return nil, err
	}
	repository, err := repo.Open(ctx, store, repo.OpenOptions{Password: password, Clock: r.clock, Tool: "holdfast sim", Log: r.log})
	if err != nil {
		return nil, err
	}
	r.open[name] = &opened{repository, store}
	return r.open[name], nil
}
