package api

import (
	"context"
	"encoding/json"
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	"github.com/holdfast-backup/holdfast/internal/auth"
	"github.com/holdfast-backup/holdfast/internal/preview"
	"github.com/holdfast-backup/holdfast/internal/view"
)

func (a *api) registerDocuments() {
	on(a, get("documents", "/documents", "What is in force"), func(ctx context.Context, p auth.Principal, _ *none) (view.List[view.Document], error) {
		all, err := a.Control.Documents(ctx, p)
		return view.List[view.Document]{Items: all}, err
	})
	type one struct {
		Kind string `path:"kind"`
		Name string `path:"name"`
	}
	on(a, get("versions", "/documents/{kind}/{name}/versions", "All versions of a document, the newest first"), func(ctx context.Context, p auth.Principal, in *one) (view.List[view.Document], error) {
		all, err := a.Control.Versions(ctx, p, in.Kind, in.Name)
		return view.List[view.Document]{Items: all}, err
	})
	type proposal struct{ Body view.Proposal }
	plan := huma.Operation{OperationID: "plan", Method: http.MethodPost, Path: "/documents/plan", Summary: "What a proposal would change; nothing is changed", Errors: []int{http.StatusConflict}}
	on(a, plan, func(ctx context.Context, p auth.Principal, in *proposal) (view.Plan, error) {
		return a.Control.Plan(ctx, p, in.Body)
	})
	on(a, change(http.MethodPost, "apply", "/documents/apply", "Make a proposal the documents in force"), func(ctx context.Context, p auth.Principal, in *proposal) (view.Applied, error) {
		return a.Control.Apply(ctx, p, in.Body)
	})
}

func (a *api) registerPolicies() {
	on(a, get("policies", "/policies", "All policies, in the order in which they go"), func(ctx context.Context, p auth.Principal, _ *none) (view.List[view.Policy], error) {
		all, err := a.Control.Policies(ctx, p)
		return view.List[view.Policy]{Items: all}, err
	})
	on(a, get("policy", "/policies/{name}", "A policy with its document"), func(ctx context.Context, p auth.Principal, in *Named) (view.Policy, error) {
		return a.Control.Policy(ctx, p, in.Name)
	})
	type patch struct {
		Named
		Body view.PolicyPatch
	}
	on(a, change(http.MethodPatch, "patchPolicy", "/policies/{name}", "Enable, disable or move a policy"), func(ctx context.Context, p auth.Principal, in *patch) (view.Policy, error) {
		return a.Control.PatchPolicy(ctx, p, in.Name, in.Body)
	})
	type clone struct {
		Named
		Body view.ClonePolicy
	}
	on(a, change(http.MethodPost, "clonePolicy", "/policies/{name}/clone", "Copy a policy; the copy is disabled"), func(ctx context.Context, p auth.Principal, in *clone) (view.Policy, error) {
		return a.Control.ClonePolicy(ctx, p, in.Name, in.Body.Name)
	})
	done(a, change(http.MethodDelete, "removePolicy", "/policies/{name}", "Remove a policy; its points stay, and age by what it said last"), func(ctx context.Context, p auth.Principal, in *Named) error {
		return a.Control.RemovePolicy(ctx, p, in.Name)
	})
	on(a, long(change(http.MethodPost, "runPolicy", "/policies/{name}/run", "Start a policy now")), func(ctx context.Context, p auth.Principal, in *Named) (view.Started, error) {
		return a.Control.RunPolicy(ctx, p, in.Name)
	})
	on(a, long(change(http.MethodPost, "stopPolicy", "/policies/{name}/stop", "Stop the sessions of a policy")), func(ctx context.Context, p auth.Principal, in *Named) (view.Stopped, error) {
		return a.Control.StopPolicy(ctx, p, in.Name)
	})
	a.registerPreviews()
}

// days is the input of previews.
type days struct {
	Named
	Days int `query:"days" minimum:"1" maximum:"3660" default:"30" doc:"days of 24 hours from now on"`
}

func (a *api) registerPreviews() {
	on(a, get("preview", "/policies/{name}/preview", "What a policy will do in the days to come"), func(ctx context.Context, p auth.Principal, in *days) (preview.Summary, error) {
		return a.Control.Preview(ctx, p, in.Name, in.Days)
	})
	stream(a, get("previewEvents", "/policies/{name}/preview/events", "The same event by event, one JSON value a line"), "application/x-ndjson",
		func(ctx context.Context, p auth.Principal, in *days) (func(huma.Context), error) {
			events, err := a.Control.PreviewEvents(ctx, p, in.Name, in.Days)
			if err != nil {
				return nil, err
			}
			return func(out huma.Context) {
				var lines []byte
				for e, err := range events {
					if err == nil {
						lines, err = e.Lines(lines[:0])
					}
					if err != nil {
						lines, _ = json.Marshal(map[string]any{"error": problemOf(http.StatusInternalServerError, err)})
					}
					if _, failed := out.BodyWriter().Write(lines); failed != nil || err != nil {
						return
					}
				}
			}, nil
		})
}

// stream adds an operation whose answer is written bit by bit.
func stream[I any](a *api, op huma.Operation, contentType string, do func(ctx context.Context, p auth.Principal, in *I) (func(huma.Context), error)) {
	op.Security = []map[string][]string{{bearer: {}}}
	op.Path = prefix + op.Path
	op.Errors = append(op.Errors, http.StatusUnauthorized, http.StatusForbidden)
	op.Responses = map[string]*huma.Response{"200": {Description: "OK", Content: map[string]*huma.MediaType{contentType: {Schema: &huma.Schema{Type: huma.TypeString}}}}}
	huma.Register(a.huma, op, func(ctx context.Context, in *I) (*huma.StreamResponse, error) {
		write, err := do(ctx, principalOf(ctx), in)
		if err != nil {
			return nil, a.problem(ctx, err)
		}
		return &huma.StreamResponse{Body: func(out huma.Context) {
			out.SetHeader("Content-Type", contentType)
			write(out)
		}}, nil
	})
}
