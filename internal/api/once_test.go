package api

import (
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"

	"github.com/holdfast-backup/holdfast/internal/clock"
	"github.com/holdfast-backup/holdfast/internal/database"
	"github.com/holdfast-backup/holdfast/internal/database/databasetest"
	"github.com/holdfast-backup/holdfast/internal/seal"
	"github.com/holdfast-backup/holdfast/internal/store"
)

// TestOnce proves that a write which names a key happens once, for one bearer, and is answered as before; that a refusal is no answer that
// stays; and that a write which died is refused.
func TestOnce(t *testing.T) {
	keys, err := seal.Create(filepath.Join(t.TempDir(), "keys"))
	if err != nil {
		t.Fatal(err)
	}
	db := databasetest.Open(t, databasetest.SQLite(t), database.Options{Migrations: store.Migrations()})
	a := &api{Config: Config{Database: db, Sealer: keys, Clock: clock.System{}, Log: slog.New(slog.DiscardHandler)}}
	calls, status := 0, http.StatusAccepted
	handler := a.once(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		calls++
		if status == 0 {
			panic(http.ErrAbortHandler)
		}
		body, _ := io.ReadAll(r.Body)
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		fmt.Fprintf(w, `{"call":%d,"body":%q}`, calls, body)
	}), func(r *http.Request) bool { return r.Header.Get("Authorization") != "Bearer nobody" })
	ask := func(key, token, body string) (int, string) {
		r := httptest.NewRequest(http.MethodPost, "/api/v1/things", strings.NewReader(body))
		r.Header.Set("Authorization", "Bearer "+token)
		if key != "" {
			r.Header.Set("Idempotency-Key", key)
		}
		w := httptest.NewRecorder()
		func() {
			defer func() { _ = recover() }()
			handler.ServeHTTP(w, r)
		}()
		return w.Code, w.Body.String()
	}
	for i, c := range []struct {
		key, token, body string
		becomes          int // of the handler from here on; -1: as before
		code, calls      int
		says             string
	}{
		{"k", "one", "x", -1, 202, 1, `"call":1`},
		{"k", "one", "x", -1, 202, 1, `"call":1`},
		{"k", "one", "y", -1, 409, 1, "another request"},
		{"k", "two", "y", -1, 202, 2, `"call":2`}, // somebody else's key
		{"", "one", "x", -1, 202, 3, `"call":3`},
		{"k", "nobody", "x", -1, 202, 4, `"call":4`}, // of whom nothing is kept; the handler refuses him
		{"r", "one", "x", 503, 503, 5, `"call":5`},
		{"r", "one", "x", 200, 200, 6, `"call":6`}, // it had no effect
		{"r", "one", "x", -1, 200, 6, `"call":6`},
		{"d", "one", "x", 0, 200, 7, ""},
		{"d", "one", "x", 200, 409, 7, "not known"}, // it died, and nobody knows what it did
	} {
		if c.becomes >= 0 {
			status = c.becomes
		}
		code, text := ask(c.key, c.token, c.body)
		if code != c.code || calls != c.calls || !strings.Contains(text, c.says) {
			t.Errorf("%d: %d, %d calls, %s", i, code, calls, text)
		}
	}
	if code, text := ask(strings.Repeat("k", 300), "one", "x"); code != http.StatusUnprocessableEntity || !strings.Contains(text, "too long") {
		t.Errorf("a long key: %d %s", code, text)
	}
}
