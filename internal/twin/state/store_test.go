package state_test

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/twin/state"
)

func open(t testing.TB, dir string) *state.Store {
	t.Helper()
	s, err := state.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func put(t testing.TB, s *state.Store, id string, n int) {
	t.Helper()
	err := s.Update(func(tx *state.Tx) error {
		d := &state.Document{ID: id, Body: state.Object{}, Created: time.Unix(int64(n), 0).UTC()}
		d.Body.Set("properties.n", n)
		tx.Put(d)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestUpdate_ReturnedTransactionsSurviveReopen(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	put(t, s, "/subscriptions/S/resourceGroups/Shop", 1)
	put(t, s, "/subscriptions/S/resourceGroups/other", 2)
	if err := s.Update(func(tx *state.Tx) error { tx.Delete("/SUBSCRIPTIONS/s/resourcegroups/OTHER"); return nil }); err != nil {
		t.Fatal(err)
	}

	again := open(t, dir) // the first is still open, as after a kill: nothing was flushed or closed
	d := again.View().Get("/subscriptions/s/resourcegroups/SHOP/")
	if d == nil || d.ID != "/subscriptions/S/resourceGroups/Shop" || d.Body.Int("properties.n") != 1 || !d.Created.Equal(time.Unix(1, 0)) {
		t.Fatalf("the document came back as %+v", d)
	}
	if again.View().Get("/subscriptions/S/resourceGroups/other") != nil {
		t.Fatal("a deleted document came back")
	}
	put(t, again, "/subscriptions/S/resourceGroups/third", 3)
	if third := again.View().Get("/subscriptions/s/resourcegroups/third"); third.Sequence <= d.Sequence {
		t.Fatalf("sequence %d after %d", third.Sequence, d.Sequence)
	}
}

func TestUpdate_ErrorChangesNothingAndRunsRollbackOnly(t *testing.T) {
	s := open(t, t.TempDir())
	put(t, s, "/a", 1)
	var ran []string
	fail := errors.New("refused")
	err := s.Update(func(tx *state.Tx) error {
		tx.OnCommit(func() { ran = append(ran, "commit") })
		tx.OnRollback(func() { ran = append(ran, "rollback") })
		tx.Delete("/a")
		tx.Put(&state.Document{ID: "/b"})
		if tx.Get("/a") != nil || tx.Get("/b") == nil {
			t.Error("a transaction does not see its own changes")
		}
		return fail
	})
	if !errors.Is(err, fail) || !slices.Equal(ran, []string{"rollback"}) {
		t.Fatalf("err %v, hooks %v", err, ran)
	}
	if s.View().Get("/a") == nil || s.View().Get("/b") != nil {
		t.Fatal("a failed transaction left its mark")
	}
}

func TestView_IsOneMoment(t *testing.T) {
	s := open(t, t.TempDir())
	put(t, s, "/a/1", 1)
	before := s.View()
	put(t, s, "/a/2", 2)
	if got := keys(before); !slices.Equal(got, []string{"/a/1"}) {
		t.Fatalf("an older view shows %v", got)
	}
}

func TestView_FromContinuesInKeyOrderWithinPrefix(t *testing.T) {
	s := open(t, t.TempDir())
	for i, id := range []string{"/a/3", "/a/1", "/A/2", "/b/1", "/a"} {
		put(t, s, id, i)
	}
	var got []string
	for d := range s.View().From("/a/", "/a/1") {
		got = append(got, d.ID)
	}
	if !slices.Equal(got, []string{"/A/2", "/a/3"}) {
		t.Fatalf("got %v", got)
	}
}

func TestOpen_CutsEveryTornTail(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	put(t, s, "/first", 1)
	path := journalOf(t, dir)
	whole, _ := os.ReadFile(path)
	put(t, s, "/second", 2)
	both, _ := os.ReadFile(path)
	for length := len(whole); length < len(both); length++ {
		torn := t.TempDir()
		if err := os.WriteFile(filepath.Join(torn, filepath.Base(path)), both[:length], 0o600); err != nil {
			t.Fatal(err)
		}
		reopened, err := state.Open(torn)
		if err != nil {
			t.Fatalf("cut at %d: %v", length, err)
		}
		if got := keys(reopened.View()); !slices.Equal(got, []string{"/first"}) {
			t.Fatalf("cut at %d: %v", length, got)
		}
		put(t, reopened, "/third", 3)
		_ = reopened.Close()
		if got := keys(open(t, torn).View()); !slices.Equal(got, []string{"/first", "/third"}) {
			t.Fatalf("cut at %d, written again: %v", length, got)
		}
	}
}

func TestOpen_ReportsDamageInTheMiddle(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	put(t, s, "/first", 1)
	put(t, s, "/second", 2)
	path := journalOf(t, dir)
	raw, _ := os.ReadFile(path)
	raw[bytes.Index(raw, []byte("/first"))] ^= 1
	if err := os.WriteFile(path, raw, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := state.Open(dir); holdfast.KindOf(err) != holdfast.KindCorrupt {
		t.Fatalf("damage gave %v", err)
	}
}

func TestJournal_IsRewrittenAndStaysSmall(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	put(t, s, "/kept", 1)
	for i := range 9000 {
		put(t, s, "/busy", i)
	}
	info, err := os.Stat(journalOf(t, dir))
	if err != nil || info.Size() > 600_000 {
		t.Fatalf("journal of two documents has %d bytes (%v)", info.Size(), err)
	}
	again := open(t, dir)
	if got := again.View().Get("/busy").Body.Int("properties.n"); got != 8999 || again.View().Get("/kept") == nil {
		t.Fatalf("after rewriting: %d", got)
	}
}

func TestStore_AgainstModel(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		dir, err := os.MkdirTemp(t.TempDir(), "model")
		if err != nil {
			rt.Fatal(err)
		}
		s := open(t, dir)
		model := map[string]int64{}
		rt.Repeat(map[string]func(*rapid.T){
			"update": func(rt *rapid.T) {
				next := maps.Clone(model)
				keep := rapid.Bool().Draw(rt, "keep")
				_ = s.Update(func(tx *state.Tx) error {
					for i := range rapid.IntRange(1, 4).Draw(rt, "changes") {
						id := fmt.Sprintf("/x/%d", rapid.IntRange(0, 9).Draw(rt, "id"))
						if rapid.Bool().Draw(rt, "delete") {
							tx.Delete(strings.ToUpper(id))
							delete(next, id)
							continue
						}
						n := int64(len(model)*100 + i)
						d := &state.Document{ID: id, Body: state.Object{}}
						d.Body.Set("n", n)
						tx.Put(d)
						next[id] = n
					}
					if !keep {
						return errors.New("dropped")
					}
					return nil
				})
				if keep {
					model = next
				}
			},
			"reopen": func(*rapid.T) { s = open(t, dir) },
			"": func(rt *rapid.T) {
				got := map[string]int64{}
				for d := range s.View().Below("/x/") {
					got[d.ID] = d.Body.Int("n")
				}
				if !maps.Equal(got, model) {
					rt.Fatalf("have %v, want %v", got, model)
				}
			},
		})
	})
}

func TestObject_KeepsUnknownAndLargeNumbers(t *testing.T) {
	o, err := state.ParseObject([]byte(`{"future":{"big":9007199254740993,"ratio":1.50},"tags":{"a.b":"c"}}`))
	if err != nil {
		t.Fatal(err)
	}
	o.Merge(state.Object{"future": map[string]any{"more": true}, "tags": nil})
	o.Set("zones", []string{"1"})
	again, _ := state.ObjectOf(o)
	if again.Int("future.big") != 9007199254740993 || !again.Flag("future.more") || again["tags"] != nil || again.Texts("zones")[0] != "1" {
		t.Fatalf("got %v", again)
	}
	if fmt.Sprint(again.At("future.ratio")) != "1.50" {
		t.Fatalf("ratio became %v", again.At("future.ratio"))
	}
	for _, bad := range []string{``, `[]`, `null`, `{} {}`, `{"a":}`} {
		if _, err := state.ParseObject([]byte(bad)); err == nil {
			t.Errorf("%q passed as an object", bad)
		}
	}
}

func keys(v *state.View) []string {
	var found []string
	for d := range v.Below("/") {
		found = append(found, d.Key())
	}
	return found
}

func journalOf(t testing.TB, dir string) string {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(dir, "*.journal"))
	if err != nil || len(found) != 1 {
		t.Fatalf("journals %v (%v)", found, err)
	}
	return found[0]
}
