package api

import (
	"context"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/auth"
	"github.com/holdfast-backup/holdfast/internal/view"
)

type principalKey struct{}

// principalOf is who a request comes from.
func principalOf(ctx context.Context) auth.Principal {
	p, known := ctx.Value(principalKey{}).(auth.Principal)
	holdfast.Invariant(known, "an operation is open to who has not signed in")
	return p
}

// authenticate lets operations that want it be reached by who bears a token alone.
func (a *api) authenticate(ctx huma.Context, next func(huma.Context)) {
	if len(ctx.Operation().Security) == 0 {
		next(ctx)
		return
	}
	p, err := a.bearer(ctx.Context(), ctx.Header("Authorization"))
	if err != nil {
		status := statusOf(holdfast.KindOf(err))
		if status == http.StatusForbidden {
			status = http.StatusUnauthorized
			ctx.SetHeader("WWW-Authenticate", "Bearer")
		}
		ctx.SetHeader("Content-Type", "application/problem+json")
		ctx.SetStatus(status)
		_ = a.huma.Marshal(ctx.BodyWriter(), "application/problem+json", problemOf(status, err)) // nobody is left to tell
		return
	}
	next(huma.WithValue(ctx, principalKey{}, p))
}

func (a *api) bearer(ctx context.Context, header string) (auth.Principal, error) {
	scheme, token, ok := strings.Cut(header, " ")
	if !ok || !strings.EqualFold(scheme, "Bearer") {
		return auth.Principal{}, holdfast.Errorf(holdfast.KindRefused, "nobody has signed in").WithHint("send a token: Authorization: Bearer TOKEN; sign in with holdfast login")
	}
	return a.Auth.Authenticate(ctx, strings.TrimSpace(token))
}

// isKnown reports whether a request bears a token that opens something.
func (a *api) isKnown(r *http.Request) bool {
	_, err := a.bearer(r.Context(), r.Header.Get("Authorization"))
	return err == nil
}

// signIn is the input of sign-in; the address is that of whoever is connected.
type signIn struct {
	Body view.SignIn
	from netip.Addr
}

// Resolve implements huma.Resolver.
func (s *signIn) Resolve(ctx huma.Context) []error {
	host, _, err := net.SplitHostPort(ctx.RemoteAddr())
	if err != nil {
		return nil
	}
	s.from, _ = netip.ParseAddr(host) // the zero value stands for an address that is not known
	return nil
}

func (a *api) registerPeople() {
	huma.Register(a.huma, huma.Operation{OperationID: "server", Method: http.MethodGet, Path: prefix + "/server", Summary: "What this server is"},
		func(context.Context, *none) (*answer[view.Server], error) {
			return &answer[view.Server]{view.Server{Name: "holdfast", Version: a.Version, API: Version, Now: a.Clock.Now().UTC().Truncate(time.Millisecond)}}, nil
		})
	huma.Register(a.huma, huma.Operation{
		OperationID: "signIn", Method: http.MethodPost, Path: prefix + "/sign-in", Summary: "Trade a name and a password for a token",
		Errors: []int{http.StatusForbidden, http.StatusTooManyRequests},
	}, func(ctx context.Context, in *signIn) (*answer[view.SignedIn], error) {
		issued, err := a.Auth.SignIn(ctx, auth.Credentials{Name: in.Body.User, Password: in.Body.Password, Keep: in.Body.Keep, From: in.from})
		if err != nil {
			return nil, a.problem(ctx, err)
		}
		t := issued.Token
		return &answer[view.SignedIn]{view.SignedIn{Token: issued.Secret.Reveal(), User: t.User, Role: string(t.Role), Expires: t.Expires}}, nil
	})
	done(a, change(http.MethodPost, "signOut", "/sign-out", "End the token"), func(ctx context.Context, p auth.Principal, _ *none) error {
		return a.Auth.SignOut(ctx, p)
	})
	on(a, get("me", "/me", "Who the token belongs to"), func(_ context.Context, p auth.Principal, _ *none) (view.Me, error) {
		me := view.Me{User: p.User, Role: string(p.Role()), Rights: []string{}}
		for _, r := range auth.Rights() {
			if p.May(r) {
				me.Rights = append(me.Rights, string(r))
			}
		}
		return me, nil
	})
	type newPassword struct{ Body view.NewPassword }
	done(a, change(http.MethodPut, "setPassword", "/me/password", "Change the own password, which ends all tokens"), func(ctx context.Context, p auth.Principal, in *newPassword) error {
		return a.Auth.ChangePassword(ctx, p, netip.Addr{}, in.Body.Old, in.Body.New)
	})
}
