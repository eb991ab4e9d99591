// Package authtest has users and tokens in memory, and the conformance suite that every auth.Store passes.
//
// It is for tests alone. The suite promises nothing about speed.
package authtest

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/auth"
)

// Memory is an auth.Store in memory. The zero value is empty.
type Memory struct {
	mu   sync.Mutex // held for each transaction
	rows rows
}

type rows struct {
	users  map[string]auth.User
	tokens map[string]auth.Token
}

// Read implements auth.Store.
func (m *Memory) Read(ctx context.Context, work func(context.Context, auth.Rows) error) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	return work(ctx, m.rows.copy())
}

// Write implements auth.Store.
func (m *Memory) Write(ctx context.Context, work func(context.Context, auth.Rows) error) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	next := m.rows.copy()
	if err := work(ctx, next); err != nil {
		return err
	}
	m.rows = *next
	return nil
}

func (r rows) copy() *rows {
	next := &rows{users: map[string]auth.User{}, tokens: map[string]auth.Token{}}
	maps.Copy(next.users, r.users)
	maps.Copy(next.tokens, r.tokens)
	return next
}

func (r *rows) User(_ context.Context, name string) (auth.User, error) {
	u, ok := r.users[name]
	if !ok {
		return u, holdfast.Errorf(holdfast.KindNotFound, "there is no user %q", name)
	}
	return u, nil
}

func (r *rows) Users(context.Context) ([]auth.User, error) {
	return slices.SortedFunc(maps.Values(r.users), func(a, b auth.User) int { return strings.Compare(a.Name, b.Name) }), nil
}

func (r *rows) PutUser(_ context.Context, u auth.User) error {
	r.users[u.Name] = u
	return nil
}

func (r *rows) RemoveUser(ctx context.Context, name string) error {
	if _, err := r.User(ctx, name); err != nil {
		return err
	}
	delete(r.users, name)
	maps.DeleteFunc(r.tokens, func(_ string, t auth.Token) bool { return t.User == name })
	return nil
}

func (r *rows) TokenByHash(_ context.Context, hash [32]byte) (auth.Token, error) {
	for _, t := range r.tokens {
		if t.Hash == hash {
			return t, nil
		}
	}
	return auth.Token{}, holdfast.Errorf(holdfast.KindNotFound, "there is no such token")
}

func (r *rows) Tokens(_ context.Context, user string) ([]auth.Token, error) {
	var found []auth.Token
	for _, t := range r.tokens {
		if t.User == user {
			found = append(found, t)
		}
	}
	slices.SortFunc(found, func(a, b auth.Token) int { return cmp.Or(a.Created.Compare(b.Created), strings.Compare(a.ID, b.ID)) })
	return found, nil
}

func (r *rows) PutToken(_ context.Context, t auth.Token) error {
	r.tokens[t.ID] = t
	return nil
}

// TestStore holds an empty store against the contract.
func TestStore(t *testing.T, open func(*testing.T) auth.Store) {
	t.Run("users", func(t *testing.T) { testUsers(t, open(t)) })
	t.Run("tokens", func(t *testing.T) { testTokens(t, open(t)) })
	t.Run("given up", func(t *testing.T) { testGivenUp(t, open(t)) })
	t.Run("one after the other", func(t *testing.T) { testSerial(t, open(t)) })
}

func write(t *testing.T, s auth.Store, work func(context.Context, auth.Rows) error) {
	t.Helper()
	if err := s.Write(t.Context(), work); err != nil {
		t.Fatal(err)
	}
}

func read(t *testing.T, s auth.Store, work func(context.Context, auth.Rows) error) {
	t.Helper()
	if err := s.Read(t.Context(), work); err != nil {
		t.Fatal(err)
	}
}

var moment = time.Date(2026, time.March, 1, 7, 30, 0, 123e6, time.UTC)

func testUsers(t *testing.T, s auth.Store) {
	full := auth.User{Name: "ann", Role: auth.RoleOperator, Disabled: true, Password: "hash", Changed: moment, Created: moment.Add(-time.Hour), SignedIn: moment.Add(time.Hour)}
	write(t, s, func(ctx context.Context, r auth.Rows) error {
		if _, err := r.User(ctx, "ann"); !holdfast.IsKind(err, holdfast.KindNotFound) {
			t.Errorf("nobody: %v", err)
		}
		if err := r.RemoveUser(ctx, "ann"); !holdfast.IsKind(err, holdfast.KindNotFound) {
			t.Errorf("nobody removed: %v", err)
		}
		if err := r.PutUser(ctx, auth.User{Name: "bob", Role: auth.RoleViewer, Created: moment}); err != nil {
			return err
		}
		if err := r.PutUser(ctx, auth.User{Name: "ann", Role: auth.RoleViewer, Created: moment}); err != nil {
			return err
		}
		return r.PutUser(ctx, full)
	})
	read(t, s, func(ctx context.Context, r auth.Rows) error {
		u, err := r.User(ctx, "ann")
		if u != full {
			t.Errorf("%+v, want %+v", u, full)
		}
		users, listErr := r.Users(ctx)
		if len(users) != 2 || users[0] != full || users[1].Name != "bob" || !users[1].SignedIn.IsZero() {
			t.Errorf("%+v", users)
		}
		return cmp.Or(err, listErr)
	})
}

func testTokens(t *testing.T, s auth.Store) {
	one := auth.Token{ID: "1", User: "ann", Name: "ci", Role: auth.RoleViewer, Hash: [32]byte{1}, Created: moment.Add(time.Minute), Expires: moment.Add(time.Hour)}
	two := auth.Token{ID: "2", User: "ann", Name: "session", Session: true, Role: auth.RoleViewer, Hash: [32]byte{2}, Created: moment, Expires: moment.Add(time.Hour)}
	other := auth.Token{ID: "3", User: "bob", Name: "ci", Role: auth.RoleViewer, Hash: [32]byte{3}, Created: moment, Expires: moment.Add(time.Hour)}
	write(t, s, func(ctx context.Context, r auth.Rows) error {
		for _, name := range []string{"ann", "bob"} {
			if err := r.PutUser(ctx, auth.User{Name: name, Role: auth.RoleViewer, Created: moment}); err != nil {
				return err
			}
		}
		for _, token := range []auth.Token{one, two, other} {
			if err := r.PutToken(ctx, token); err != nil {
				return err
			}
		}
		two.Used, two.Revoked = moment.Add(2*time.Minute), moment.Add(3*time.Minute)
		return r.PutToken(ctx, two)
	})
	read(t, s, func(ctx context.Context, r auth.Rows) error {
		if tokens, err := r.Tokens(ctx, "ann"); err != nil || !slices.Equal(tokens, []auth.Token{two, one}) {
			t.Errorf("%+v, %v", tokens, err)
		}
		if token, err := r.TokenByHash(ctx, [32]byte{2}); err != nil || token != two {
			t.Errorf("%+v, %v", token, err)
		}
		if _, err := r.TokenByHash(ctx, [32]byte{}); !holdfast.IsKind(err, holdfast.KindNotFound) {
			t.Errorf("no such hash: %v", err)
		}
		return nil
	})
	write(t, s, func(ctx context.Context, r auth.Rows) error { return r.RemoveUser(ctx, "ann") })
	read(t, s, func(ctx context.Context, r auth.Rows) error {
		if tokens, err := r.Tokens(ctx, "ann"); err != nil || len(tokens) != 0 {
			t.Errorf("tokens of a user who is removed: %+v, %v", tokens, err)
		}
		_, err := r.TokenByHash(ctx, other.Hash)
		return err
	})
}

// testGivenUp proves that a transaction whose work fails leaves nothing.
func testGivenUp(t *testing.T, s auth.Store) {
	refused := holdfast.Errorf(holdfast.KindRefused, "no")
	err := s.Write(t.Context(), func(ctx context.Context, r auth.Rows) error {
		if err := r.PutUser(ctx, auth.User{Name: "ann", Role: auth.RoleViewer, Created: moment}); err != nil {
			return err
		}
		return refused
	})
	if !holdfast.IsKind(err, holdfast.KindRefused) {
		t.Errorf("%v", err)
	}
	read(t, s, func(ctx context.Context, r auth.Rows) error {
		if users, err := r.Users(ctx); err != nil || len(users) != 0 {
			t.Errorf("%+v, %v", users, err)
		}
		return nil
	})
}

// testSerial proves that of two who each remove an administrator because the other one is left, one is refused.
func testSerial(t *testing.T, s auth.Store) {
	write(t, s, func(ctx context.Context, r auth.Rows) error {
		for _, name := range []string{"ann", "bob"} {
			if err := r.PutUser(ctx, auth.User{Name: name, Role: auth.RoleAdministrator, Created: moment}); err != nil {
				return err
			}
		}
		return nil
	})
	var wait sync.WaitGroup
	for _, name := range []string{"ann", "bob"} {
		wait.Go(func() {
			_ = s.Write(t.Context(), func(ctx context.Context, r auth.Rows) error {
				users, err := r.Users(ctx)
				if err != nil || len(users) < 2 {
					return cmp.Or(err, error(holdfast.Errorf(holdfast.KindRefused, "the last one")))
				}
				return r.RemoveUser(ctx, name)
			})
		})
	}
	wait.Wait()
	read(t, s, func(ctx context.Context, r auth.Rows) error {
		users, err := r.Users(ctx)
		if len(users) != 1 {
			t.Errorf("%d administrators are left", len(users))
		}
		return err
	})
}
