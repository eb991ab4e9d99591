package store

import (
	"cmp"
	"context"
	"encoding/hex"
	"fmt"
	"slices"
	"time"

	"github.com/uptrace/bun"

	"github.com/holdfast-backup/holdfast/internal/auth"
	"github.com/holdfast-backup/holdfast/internal/database"
)

type userRow struct {
	bun.BaseModel `bun:"table:users"`

	Name    string `bun:",pk"`
	Body    string
	Created int64
}

type tokenRow struct {
	bun.BaseModel `bun:"table:tokens"`

	Hash     string `bun:",pk"`
	UserName string
	Expires  int64
	Body     string
}

// People keeps users and tokens in a database.
func People(db *database.DB) auth.Store { return people{db} }

type people struct{ db *database.DB }

// Read implements auth.Store.
func (p people) Read(ctx context.Context, work func(context.Context, auth.Rows) error) error {
	return p.db.Read(ctx, func(ctx context.Context, q Query) error { return work(ctx, peopleRows{q}) })
}

// Write implements auth.Store.
func (p people) Write(ctx context.Context, work func(context.Context, auth.Rows) error) error {
	return p.db.Write(ctx, func(ctx context.Context, tx database.Tx) error { return work(ctx, peopleRows{tx}) })
}

// peopleRows are users and tokens inside one transaction.
type peopleRows struct{ q Query }

// User implements auth.Rows.
func (p peopleRows) User(ctx context.Context, name string) (auth.User, error) {
	var rows []userRow
	if err := p.q.NewSelect().Model(&rows).Where("name = ?", name).Scan(ctx); err != nil {
		return auth.User{}, fmt.Errorf("reading a user: %w", err)
	}
	if len(rows) == 0 {
		return auth.User{}, notFound("user", name)
	}
	return rows[0].user()
}

func (r userRow) user() (u auth.User, err error) {
	err = decode(r.Body, &u, "a user")
	return u, err
}

// Users implements auth.Rows.
func (p peopleRows) Users(ctx context.Context) ([]auth.User, error) {
	var rows []userRow
	if err := p.q.NewSelect().Model(&rows).Order("name").Scan(ctx); err != nil {
		return nil, fmt.Errorf("reading the users: %w", err)
	}
	all := make([]auth.User, 0, len(rows))
	for _, r := range rows {
		u, err := r.user()
		if err != nil {
			return nil, err
		}
		all = append(all, u)
	}
	return all, nil
}

// PutUser implements auth.Rows.
func (p peopleRows) PutUser(ctx context.Context, u auth.User) error {
	for _, t := range []*time.Time{&u.Changed, &u.Created, &u.SignedIn} {
		*t = instant(millis(*t))
	}
	row := userRow{Name: u.Name, Body: encode(u), Created: millis(u.Created)}
	if _, err := p.q.NewInsert().Model(&row).On("CONFLICT (name) DO UPDATE").Set("body = EXCLUDED.body").Exec(ctx); err != nil {
		return fmt.Errorf("writing a user: %w", err)
	}
	return nil
}

// RemoveUser implements auth.Rows.
func (p peopleRows) RemoveUser(ctx context.Context, name string) error {
	result, err := p.q.NewDelete().Model((*userRow)(nil)).Where("name = ?", name).Exec(ctx)
	removed, err := changed(result, err, "removing a user")
	if err != nil {
		return err
	}
	if !removed {
		return notFound("user", name)
	}
	if _, err := p.q.NewDelete().Model((*tokenRow)(nil)).Where("user_name = ?", name).Exec(ctx); err != nil {
		return fmt.Errorf("removing the tokens of a user: %w", err)
	}
	return nil
}

// TokenByHash implements auth.Rows.
func (p peopleRows) TokenByHash(ctx context.Context, hash [32]byte) (auth.Token, error) {
	var rows []tokenRow
	if err := p.q.NewSelect().Model(&rows).Where("hash = ?", hex.EncodeToString(hash[:])).Scan(ctx); err != nil {
		return auth.Token{}, fmt.Errorf("reading a token: %w", err)
	}
	if len(rows) == 0 {
		return auth.Token{}, notFound("token", "")
	}
	return rows[0].token()
}

func (r tokenRow) token() (t auth.Token, err error) {
	err = decode(r.Body, &t, "a token")
	return t, err
}

// Tokens implements auth.Rows.
func (p peopleRows) Tokens(ctx context.Context, user string) ([]auth.Token, error) {
	var rows []tokenRow
	if err := p.q.NewSelect().Model(&rows).Where("user_name = ?", user).Order("hash").Scan(ctx); err != nil {
		return nil, fmt.Errorf("reading the tokens of a user: %w", err)
	}
	all := make([]auth.Token, 0, len(rows))
	for _, r := range rows {
		t, err := r.token()
		if err != nil {
			return nil, err
		}
		all = append(all, t)
	}
	slices.SortStableFunc(all, func(a, b auth.Token) int { return cmp.Or(a.Created.Compare(b.Created), cmp.Compare(a.ID, b.ID)) })
	return all, nil
}

// PutToken implements auth.Rows.
func (p peopleRows) PutToken(ctx context.Context, t auth.Token) error {
	for _, at := range []*time.Time{&t.Created, &t.Expires, &t.Used, &t.Revoked} {
		*at = instant(millis(*at))
	}
	row := tokenRow{Hash: hex.EncodeToString(t.Hash[:]), UserName: t.User, Expires: millis(t.Expires), Body: encode(t)}
	if _, err := p.q.NewInsert().Model(&row).On("CONFLICT (hash) DO UPDATE").Set("expires = EXCLUDED.expires, body = EXCLUDED.body").Exec(ctx); err != nil {
		return fmt.Errorf("writing a token: %w", err)
	}
	return nil
}
