package store

import (
	"context"
	"fmt"

	"github.com/uptrace/bun"
)

type secretRow struct {
	bun.BaseModel `bun:"table:secrets"`

	Name   string `bun:",pk"`
	Sealed []byte
}

// PutSecret writes what was sealed under a name, in place of an earlier one.
func PutSecret(ctx context.Context, tx Query, name string, sealed []byte) error {
	row := secretRow{Name: name, Sealed: sealed}
	if _, err := tx.NewInsert().Model(&row).On("CONFLICT (name) DO UPDATE").Set("sealed = EXCLUDED.sealed").Exec(ctx); err != nil {
		return fmt.Errorf("writing a secret: %w", err)
	}
	return nil
}

// Secret returns what was sealed under a name; KindNotFound when nothing was.
func Secret(ctx context.Context, q Query, name string) ([]byte, error) {
	var rows []secretRow
	if err := q.NewSelect().Model(&rows).Where("name = ?", name).Scan(ctx); err != nil {
		return nil, fmt.Errorf("reading a secret: %w", err)
	}
	if len(rows) == 0 {
		return nil, notFound("secret", name)
	}
	return rows[0].Sealed, nil
}

// Secrets returns all that was sealed, by name.
func Secrets(ctx context.Context, q Query) (map[string][]byte, error) {
	var rows []secretRow
	if err := q.NewSelect().Model(&rows).Scan(ctx); err != nil {
		return nil, fmt.Errorf("reading the secrets: %w", err)
	}
	all := make(map[string][]byte, len(rows))
	for _, r := range rows {
		all[r.Name] = r.Sealed
	}
	return all, nil
}

// RemoveSecret removes what was sealed under a name. One that is not there is no error.
func RemoveSecret(ctx context.Context, tx Query, name string) error {
	if _, err := tx.NewDelete().Model((*secretRow)(nil)).Where("name = ?", name).Exec(ctx); err != nil {
		return fmt.Errorf("removing a secret: %w", err)
	}
	return nil
}

type factRow struct {
	bun.BaseModel `bun:"table:facts"`

	Name  string `bun:",pk"`
	Value string
}

// The names of facts.
const (
	factInstallation = "installation" // its id
	factSealKey      = "sealKey"      // which key seals what is secret
)

// Installation returns the id of the installation that a database belongs to, which is made when it is asked for first.
func Installation(ctx context.Context, tx Query, newID func() string) (string, error) {
	row := factRow{Name: factInstallation, Value: newID()}
	if _, err := tx.NewInsert().Model(&row).On("CONFLICT (name) DO NOTHING").Exec(ctx); err != nil {
		return "", fmt.Errorf("writing the id of the installation: %w", err)
	}
	return fact(ctx, tx, factInstallation)
}

// fact returns what is known under a name; "" when nothing is.
func fact(ctx context.Context, q Query, name string) (string, error) {
	var rows []factRow
	if err := q.NewSelect().Model(&rows).Where("name = ?", name).Scan(ctx); err != nil {
		return "", fmt.Errorf("reading the fact %s: %w", name, err)
	}
	if len(rows) == 0 {
		return "", nil
	}
	return rows[0].Value, nil
}

// SealKey names the key that seals what is secret in a database; "" before the first one did.
func SealKey(ctx context.Context, q Query) (string, error) { return fact(ctx, q, factSealKey) }

// PutSealKey notes which key seals from now on.
func PutSealKey(ctx context.Context, tx Query, id string) error {
	row := factRow{Name: factSealKey, Value: id}
	if _, err := tx.NewInsert().Model(&row).On("CONFLICT (name) DO UPDATE").Set("value = EXCLUDED.value").Exec(ctx); err != nil {
		return fmt.Errorf("noting which key seals: %w", err)
	}
	return nil
}
