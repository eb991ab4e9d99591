package api

import (
	"context"
	"net/http"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/auth"
	"github.com/holdfast-backup/holdfast/internal/control"
	"github.com/holdfast-backup/holdfast/internal/view"
)

func (a *api) registerMachines() {
	type filtered struct {
		Policy      string `query:"policy"`
		Region      string `query:"region"`
		Search      string `query:"search" doc:"a part of the id"`
		Unprotected bool   `query:"unprotected" doc:"those that no policy protects"`
		Gone        bool   `query:"gone" doc:"those that were deleted as well"`
		Paged
	}
	on(a, get("machines", "/machines", "Virtual machines with who protects them, by id"), func(ctx context.Context, p auth.Principal, in *filtered) (view.List[view.Machine], error) {
		f := control.MachineFilter{Policy: in.Policy, Region: in.Region, Search: in.Search, Unprotected: in.Unprotected, Gone: in.Gone}
		return a.Control.Machines(ctx, p, f, in.Limit, in.After)
	})
	done(a, change(http.MethodPost, "discover", "/machines/discover", "Look at the cloud now"), func(ctx context.Context, p auth.Principal, _ *none) error {
		return a.Control.Discover(ctx, p)
	})
	type snapshot struct {
		Body struct {
			VM string `json:"vm" minLength:"1" doc:"an id, or a name that only one machine has"`
		}
	}
	on(a, long(change(http.MethodPost, "snapshot", "/machines/snapshot", "Make a snapshot of a machine by hand; no retention touches it")), func(ctx context.Context, p auth.Principal, in *snapshot) (view.Session, error) {
		return a.Control.Snapshot(ctx, p, in.Body.VM)
	})
}

func (a *api) registerPoints() {
	type filtered struct {
		VM         string   `query:"vm" doc:"an id, or a name that only one machine has"`
		Policy     string   `query:"policy"`
		Kind       []string `query:"kind,explode" enum:"snapshot,backup,archive"`
		Repository string   `query:"repository"`
		Removed    bool     `query:"removed" doc:"those that are gone as well"`
		Paged
	}
	on(a, get("points", "/points", "Restore points, the newest first, each with why it stays"), func(ctx context.Context, p auth.Principal, in *filtered) (view.List[view.Point], error) {
		f := control.PointFilter{VM: in.VM, Policy: in.Policy, Repository: in.Repository, Removed: in.Removed}
		for _, k := range in.Kind {
			f.Kinds = append(f.Kinds, holdfast.PointKind(k))
		}
		return a.Control.Points(ctx, p, f, in.Limit, in.After)
	})
	type remove struct{ Body view.RemovePoints }
	on(a, long(change(http.MethodPost, "removePoints", "/points/remove", "Remove restore points, all that are Named or none")), func(ctx context.Context, p auth.Principal, in *remove) (view.Removal, error) {
		return a.Control.RemovePoints(ctx, p, in.Body)
	})
}

func (a *api) registerRepositories() {
	on(a, get("repositories", "/repositories", "All repositories that are declared"), func(ctx context.Context, p auth.Principal, _ *none) (view.List[view.Repository], error) {
		all, err := a.Control.Repositories(ctx, p)
		return view.List[view.Repository]{Items: all}, err
	})
	on(a, get("repository", "/repositories/{name}", "A repository, looked at now"), func(ctx context.Context, p auth.Principal, in *Named) (view.Repository, error) {
		return a.Control.Repository(ctx, p, in.Name)
	})
	type add struct{ Body view.AddRepository }
	on(a, change(http.MethodPost, "addRepository", "/repositories", "Declare a repository, and open or make it"), func(ctx context.Context, p auth.Principal, in *add) (view.Connected, error) {
		return a.Control.AddRepository(ctx, p, in.Body)
	})
	done(a, change(http.MethodDelete, "removeRepository", "/repositories/{name}", "Forget a repository that nothing uses; what is stored in it stays"), func(ctx context.Context, p auth.Principal, in *Named) error {
		return a.Control.RemoveRepository(ctx, p, in.Name)
	})
}
