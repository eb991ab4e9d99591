// Package api is the REST interface: OpenAPI 3.1 over what package control answers.
//
// It promises that a request either comes from somebody who has signed in or is refused, that every refusal is a problem document
// (RFC 9457) with the kind of error, the field and what to do, that a write which names an idempotency key happens once however often it is
// sent, and that schemas/openapi.json is what it does: a test fails when they drift apart.
//
// It decides nothing: it takes requests apart and puts answers together. It must never log or store a token or a password in the clear.
package api

import (
	"context"
	"log/slog"
	"net/http"
	"path"
	"reflect"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/auth"
	"github.com/holdfast-backup/holdfast/internal/clock"
	"github.com/holdfast-backup/holdfast/internal/control"
	"github.com/holdfast-backup/holdfast/internal/database"
)

// Sealer keeps answers to writes from being read in the database: they may hold a recovery code.
type Sealer interface {
	Seal(row string, secret []byte) ([]byte, error)
	Open(row string, sealed []byte) ([]byte, error)
}

// Config says what to work with. All fields are required.
type Config struct {
	Control      *control.Control
	Auth         *auth.Service
	Database     *database.DB // of idempotency keys
	Sealer       Sealer
	Clock        clock.Clock
	Log          *slog.Logger
	Version      string // of the program
	Installation string // its id
	// WatchEvery is how often a session that somebody watches is looked at; a second when 0.
	WatchEvery time.Duration
}

// Version is the version of the interface.
const Version = "1"

// prefix is where it begins.
const prefix = "/api/v" + Version

// api is the interface under construction.
type api struct {
	Config
	huma huma.API
}

// New makes the handler of the whole interface, and its description.
func New(config Config) (http.Handler, *huma.OpenAPI) {
	if config.WatchEvery == 0 {
		config.WatchEvery = time.Second
	}
	teach()
	mux := http.NewServeMux()
	a := &api{Config: config}
	a.huma = humago.New(mux, a.settings())
	a.huma.UseMiddleware(a.authenticate)
	a.registerPeople()
	a.registerDocuments()
	a.registerPolicies()
	a.registerSessions()
	a.registerMachines()
	a.registerPoints()
	a.registerRepositories()
	a.registerReports()
	mux.HandleFunc("/", notFound)
	return a.once(mux, a.isKnown), a.huma.OpenAPI()
}

// settings are huma's, without what its defaults would fetch from elsewhere.
func (a *api) settings() huma.Config {
	c := huma.DefaultConfig("Holdfast", Version)
	c.Info.Description = "Backup of Azure virtual machines. Long work is answered with the session that does it; refusals are problem documents (RFC 9457) with a kind, a field and a hint."
	c.Info.License = &huma.License{Name: "Apache-2.0", Identifier: "Apache-2.0"}
	c.OpenAPIPath, c.DocsPath, c.SchemasPath = "/openapi", "", ""
	c.CreateHooks = nil // they would add a link to a schema to each answer
	c.RejectUnknownQueryParameters = true
	c.Components.Schemas = huma.NewMapRegistry("#/components/schemas/", nameOf)
	c.Components.SecuritySchemes = map[string]*huma.SecurityScheme{bearer: {Type: "http", Scheme: "bearer", Description: "a token, from sign-in"}}
	return c
}

// nameOf names the schema of a type: those of package view as they are, others after their package as well, since several have a Session.
func nameOf(t reflect.Type, hint string) string {
	name := huma.DefaultSchemaNamer(t, hint)
	for t.Kind() == reflect.Pointer || t.Kind() == reflect.Slice {
		t = t.Elem()
	}
	part := path.Base(t.PkgPath())
	if t.Name() == "" || part == "view" || part == "api" || part == "." {
		return name
	}
	return strings.ToUpper(part[:1]) + part[1:] + name
}

// bearer is the name of the one way to sign in.
const bearer = "token"

// notFound answers for what is not there.
func notFound(w http.ResponseWriter, r *http.Request) {
	writeProblem(w, http.StatusNotFound, holdfast.Errorf(holdfast.KindNotFound, "there is nothing at %s", r.URL.Path).WithHint("the interface is described at /openapi.json"))
}

// answer is a body.
type answer[T any] struct{ Body T }

// on adds an operation for who has signed in.
func on[I, O any](a *api, op huma.Operation, do func(ctx context.Context, p auth.Principal, in *I) (O, error)) {
	op.Security = []map[string][]string{{bearer: {}}}
	op.Path, op.MaxBodyBytes = prefix+op.Path, bodyMax
	op.Errors = append(op.Errors, http.StatusUnauthorized, http.StatusForbidden)
	huma.Register(a.huma, op, func(ctx context.Context, in *I) (*answer[O], error) {
		out, err := do(ctx, principalOf(ctx), in)
		if err != nil {
			return nil, a.problem(ctx, err)
		}
		return &answer[O]{out}, nil
	})
}

// done adds an operation that answers nothing but that it is done.
func done[I any](a *api, op huma.Operation, do func(ctx context.Context, p auth.Principal, in *I) error) {
	op.Security = []map[string][]string{{bearer: {}}}
	op.Path, op.DefaultStatus = prefix+op.Path, http.StatusNoContent
	op.Errors = append(op.Errors, http.StatusUnauthorized, http.StatusForbidden)
	huma.Register(a.huma, op, func(ctx context.Context, in *I) (*struct{}, error) {
		if err := do(ctx, principalOf(ctx), in); err != nil {
			return nil, a.problem(ctx, err)
		}
		return nil, nil //nolint:nilnil // huma: no body
	})
}

// get describes an operation that reads.
func get(id, path, summary string) huma.Operation {
	return huma.Operation{OperationID: id, Method: http.MethodGet, Path: path, Summary: summary}
}

// change describes an operation that writes.
func change(method, id, path, summary string) huma.Operation {
	return huma.Operation{OperationID: id, Method: method, Path: path, Summary: summary, Errors: []int{http.StatusConflict}}
}

// long makes an operation one that is answered before its work is done.
func long(op huma.Operation) huma.Operation {
	op.DefaultStatus = http.StatusAccepted
	return op
}

// Embedded parts of inputs are exported, since huma looks at no others.

// none is the input of operations that take none.
type none struct{}

// Named is the input of operations on one thing with a name.
type Named struct {
	Name string `path:"name" maxLength:"255"`
}

// Paged is the part of an input that says which page is wanted.
type Paged struct {
	Limit int    `query:"limit" minimum:"1" maximum:"1000" default:"100" doc:"how many at the most"`
	After string `query:"after" doc:"next of the page before"`
}
