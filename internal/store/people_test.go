package store_test

import (
	"context"
	"testing"
	"time"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/auth"
	"github.com/holdfast-backup/holdfast/internal/auth/authtest"
	"github.com/holdfast-backup/holdfast/internal/database"
	"github.com/holdfast-backup/holdfast/internal/database/databasetest"
	"github.com/holdfast-backup/holdfast/internal/store"
)

// Users and tokens in a database are what package auth asks for.
func TestPeople(t *testing.T) {
	for name, fresh := range map[string]func(testing.TB) string{"SQLite": databasetest.SQLite, "PostgreSQL": databasetest.PostgreSQL} {
		t.Run(name, func(t *testing.T) {
			authtest.TestStore(t, func(t *testing.T) auth.Store {
				t.Helper()
				return store.People(databasetest.Open(t, fresh(t), database.Options{Migrations: store.Migrations()}))
			})
		})
	}
}

// A write that names a key is begun once. Its answer is there for whoever asks again; another request under the key, and one whose answer
// nobody knows, are refused; one that had no effect may be sent again; and after a day nobody remembers.
func TestAnswers(t *testing.T) {
	both(t, func(t *testing.T, w world) {
		claim := func(request string, at time.Time) (a store.Answer, begun bool, err error) {
			_ = w.db.Write(t.Context(), func(ctx context.Context, tx database.Tx) error {
				a, begun, err = store.ClaimWrite(ctx, tx, "key", request, at)
				return err
			})
			return a, begun, err
		}
		if _, begun, err := claim("one", noon); err != nil || !begun {
			t.Fatalf("the first one: %t, %v", begun, err)
		}
		for _, request := range []string{"one", "two"} { // unanswered, and another one
			if _, begun, err := claim(request, noon); begun || !holdfast.IsKind(err, holdfast.KindConflict) {
				t.Errorf("%s: %t, %v", request, begun, err)
			}
		}
		w.change(func(ctx context.Context, tx database.Tx) error { return store.ForgetWrite(ctx, tx, "key") })
		if _, begun, err := claim("one", noon); err != nil || !begun {
			t.Errorf("after it had no effect: %t, %v", begun, err)
		}
		w.change(func(ctx context.Context, tx database.Tx) error {
			return store.PutAnswer(ctx, tx, "key", store.Answer{Status: 202, Type: "text/plain", Body: []byte("done")})
		})
		if a, begun, err := claim("one", noon.Add(time.Hour)); err != nil || begun || a.Status != 202 || string(a.Body) != "done" || a.Type != "text/plain" {
			t.Errorf("again: %+v, %t, %v", a, begun, err)
		}
		if _, begun, err := claim("two", noon.Add(25*time.Hour)); err != nil || !begun {
			t.Errorf("a day later: %t, %v", begun, err)
		}
	})
}

// An installation has one id for ever.
func TestInstallation(t *testing.T) {
	both(t, func(t *testing.T, w world) {
		for _, name := range []string{"first", "second"} {
			w.change(func(ctx context.Context, tx database.Tx) error {
				id, err := store.Installation(ctx, tx, func() string { return name })
				if id != "first" {
					t.Errorf("asked for the %s time it is %s", name, id)
				}
				return err
			})
		}
	})
}
