package store

import (
	"context"
	"fmt"
	"time"

	"github.com/uptrace/bun"
)

// Document is a document as people wrote it, in its canonical form.
type Document struct {
	Kind    string
	Name    string
	Version int // of this document, from 1 on
	YAML    string
	Created time.Time
	Updated time.Time
	Author  string
}

type documentRow struct {
	bun.BaseModel `bun:"table:documents"`

	Kind    string `bun:",pk"`
	Name    string `bun:",pk"`
	Version int
	YAML    string `bun:"yaml"`
	Created int64
	Updated int64
	Author  string
}

type documentVersionRow struct {
	bun.BaseModel `bun:"table:document_versions"`

	Kind    string `bun:",pk"`
	Name    string `bun:",pk"`
	Version int    `bun:",pk"`
	YAML    string `bun:"yaml"`
	At      int64
	Author  string
}

// Documents returns all documents, by kind and name.
func Documents(ctx context.Context, q Query) ([]Document, error) {
	var rows []documentRow
	if err := q.NewSelect().Model(&rows).Order("kind", "name").Scan(ctx); err != nil {
		return nil, fmt.Errorf("reading the documents: %w", err)
	}
	documents := make([]Document, len(rows))
	for i, r := range rows {
		documents[i] = Document{r.Kind, r.Name, r.Version, r.YAML, instant(r.Created), instant(r.Updated), r.Author}
	}
	return documents, nil
}

// Versions returns all versions of a document, the newest first. One whose YAML is empty is a removal.
func Versions(ctx context.Context, q Query, kind, name string) ([]Document, error) {
	var rows []documentVersionRow
	if err := q.NewSelect().Model(&rows).Where("kind = ? AND name = ?", kind, name).Order("version DESC").Scan(ctx); err != nil {
		return nil, fmt.Errorf("reading the versions of a document: %w", err)
	}
	versions := make([]Document, len(rows))
	for i, r := range rows {
		versions[i] = Document{Kind: r.Kind, Name: r.Name, Version: r.Version, YAML: r.YAML, Updated: instant(r.At), Author: r.Author}
	}
	return versions, nil
}

// PutDocument makes a document, or a new version of it. Whether the documents fit together is for the caller to know.
func PutDocument(ctx context.Context, tx Query, d Document) error {
	version, err := nextVersion(ctx, tx, d.Kind, d.Name)
	if err != nil {
		return err
	}
	row := documentRow{Kind: d.Kind, Name: d.Name, Version: version, YAML: d.YAML, Created: millis(d.Updated), Updated: millis(d.Updated), Author: d.Author}
	_, err = tx.NewInsert().Model(&row).On("CONFLICT (kind, name) DO UPDATE").
		Set("version = EXCLUDED.version, yaml = EXCLUDED.yaml, updated = EXCLUDED.updated, author = EXCLUDED.author").Exec(ctx)
	if err != nil {
		return fmt.Errorf("writing the document %s %s: %w", d.Kind, d.Name, err)
	}
	return addVersion(ctx, tx, d, version)
}

// RemoveDocument removes a document; its versions stay. The error has KindNotFound when there is none.
func RemoveDocument(ctx context.Context, tx Query, kind, name, author string, at time.Time) error {
	version, err := nextVersion(ctx, tx, kind, name)
	if err != nil {
		return err
	}
	result, err := tx.NewDelete().Model((*documentRow)(nil)).Where("kind = ? AND name = ?", kind, name).Exec(ctx)
	if err != nil {
		return fmt.Errorf("removing the document %s %s: %w", kind, name, err)
	}
	if n, err := result.RowsAffected(); err == nil && n == 0 {
		return notFound(kind, name)
	}
	return addVersion(ctx, tx, Document{Kind: kind, Name: name, Updated: at, Author: author}, version)
}

func nextVersion(ctx context.Context, q Query, kind, name string) (int, error) {
	var newest int
	err := q.NewSelect().Model((*documentVersionRow)(nil)).ColumnExpr("COALESCE(MAX(version), 0)").Where("kind = ? AND name = ?", kind, name).Scan(ctx, &newest)
	if err != nil {
		return 0, fmt.Errorf("reading the versions of a document: %w", err)
	}
	return newest + 1, nil
}

func addVersion(ctx context.Context, tx Query, d Document, version int) error {
	row := documentVersionRow{Kind: d.Kind, Name: d.Name, Version: version, YAML: d.YAML, At: millis(d.Updated), Author: d.Author}
	if _, err := tx.NewInsert().Model(&row).Exec(ctx); err != nil {
		return fmt.Errorf("writing a version of the document %s %s: %w", d.Kind, d.Name, err)
	}
	_, err := Count(ctx, tx, CounterDocuments)
	return err
}

// Counter names a number that only rises.
type Counter string

// The counters.
const (
	CounterDocuments Counter = "documents" // rises with each change of a document
	CounterMachines  Counter = "machines"  // rises with each change of the inventory that policies could notice
	counterEvents    Counter = "events"
	counterLedger    Counter = "ledger"
)

type counterRow struct {
	bun.BaseModel `bun:"table:counters"`

	Name  string `bun:",pk"`
	Value int64
}

// Count raises a counter by one and returns its new value.
func Count(ctx context.Context, tx Query, name Counter) (int64, error) { return take(ctx, tx, name, 1) }

// take raises a counter by n and returns its new value.
func take(ctx context.Context, tx Query, name Counter, n int) (int64, error) {
	row := counterRow{Name: string(name), Value: int64(n)}
	_, err := tx.NewInsert().Model(&row).On("CONFLICT (name) DO UPDATE").Set("value = counter_row.value + EXCLUDED.value").Returning("value").Exec(ctx)
	if err != nil {
		return 0, fmt.Errorf("raising the counter %s: %w", name, err)
	}
	return row.Value, nil
}

// Counted returns a counter's value; 0 before it was raised first.
func Counted(ctx context.Context, q Query, name Counter) (int64, error) {
	var rows []counterRow
	if err := q.NewSelect().Model(&rows).Where("name = ?", string(name)).Scan(ctx); err != nil {
		return 0, fmt.Errorf("reading the counter %s: %w", name, err)
	}
	if len(rows) == 0 {
		return 0, nil
	}
	return rows[0].Value, nil
}

// Remember writes a value under a name of its own, in place of an earlier one.
func Remember(ctx context.Context, tx Query, name Counter, value int64) error {
	row := counterRow{Name: string(name), Value: value}
	if _, err := tx.NewInsert().Model(&row).On("CONFLICT (name) DO UPDATE").Set("value = EXCLUDED.value").Exec(ctx); err != nil {
		return fmt.Errorf("writing the counter %s: %w", name, err)
	}
	return nil
}
