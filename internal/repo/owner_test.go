package repo_test

import (
	"strings"
	"testing"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/blob"
	"github.com/holdfast-backup/holdfast/internal/blob/mem"
	"github.com/holdfast-backup/holdfast/internal/repo"
	"github.com/holdfast-backup/holdfast/internal/repo/repotest"
)

// as opens the repository as a writer of an installation.
func (k *keyed) as(installation string) *repo.Repository {
	k.t.Helper()
	o := openOptions()
	o.Installation = installation
	r, err := repo.Open(k.t.Context(), k.store, o)
	if err != nil {
		k.t.Fatal(err)
	}
	return r
}

func mustTakeOver(t *testing.T, r *repo.Repository, from string) repo.Ownership {
	t.Helper()
	o, err := r.TakeOver(t.Context(), from)
	if err != nil {
		t.Fatal(err)
	}
	return o
}

func mustBeOwned(t *testing.T, what string, err error, by string) {
	t.Helper()
	if !holdfast.IsKind(err, holdfast.KindRefused) || !strings.Contains(err.Error(), "installation "+by) {
		t.Errorf("%s: %v", what, err)
	}
}

// A repository that nobody owns takes anybody. Once it is owned, only the owner writes: a writer of another installation, or of none,
// is told by whom it is owned, before it has uploaded anything. Readers are never refused.
func TestOwner_OthersAreRefused(t *testing.T) {
	k := newKeyed(t)
	d := repotest.NewDisk(chunkSize)
	d.Write(0, []byte("content"))
	mustBackup(t, k.as("one"), "vm-1", d, nil)
	if o := mustTakeOver(t, k.as("one"), ""); o.Owner != "one" || o.Epoch != 1 || o.Since.IsZero() {
		t.Errorf("ownership %+v", o)
	}
	mine := mustBackup(t, k.as("one"), "vm-1", d, nil)
	mustChange(t)(k.as("one").Rotate(t.Context(), repo.RotateOptions{}))
	if result, err := repo.NewCollector(k.as("one"), k.store.Remover()).Collect(t.Context(), eager()); err != nil || result.Freed.Objects == 0 {
		t.Fatalf("%+v, %v", result, err) // it leaves its condemnation list, which the next one removes without an entry
	}
	objects := len(k.store.Adversary().Names())
	for _, name := range []string{"", "two"} {
		r := k.as(name)
		_, err := repotest.Backup(t.Context(), r, "vm-2", d, nil)
		mustBeOwned(t, "a backup", err, "one")
		_, err = r.RebuildIndex(t.Context(), nil)
		mustBeOwned(t, "a rebuild", err, "one")
		_, err = r.RemoveSlot(t.Context(), "0")
		mustBeOwned(t, "a key change", err, "one")
		mustBeOwned(t, "a removal", repo.RemovePoint(t.Context(), r, mine.ID), "one")
		_, err = repo.NewCollector(r, k.store.Remover()).Collect(t.Context(), eager())
		mustBeOwned(t, "a collection", err, "one")
		mustEqual(t, r, mine.ID, d.Data)
	}
	if now := len(k.store.Adversary().Names()); now != objects {
		t.Errorf("strangers changed the number of objects by %d", now-objects)
	}
}

// Who takes over says from whom; who already owns the repository is done; an installation has a name.
func TestOwner_TakeOverIsExplicit(t *testing.T) {
	k := newKeyed(t)
	mustTakeOver(t, k.as("one"), "")
	for what, try := range map[string]struct{ as, from string }{
		"without the owner's name": {"two", ""}, "with another's name": {"two", "three"}, "twice, late": {"two", ""},
	} {
		_, err := k.as(try.as).TakeOver(t.Context(), try.from)
		mustBeOwned(t, what, err, "one")
	}
	for _, bad := range []string{"", "a b", "-x", strings.Repeat("x", 65), "ü"} {
		if _, err := k.as(bad).TakeOver(t.Context(), "one"); !holdfast.IsKind(err, holdfast.KindInvalid) {
			t.Errorf("an installation called %q: %v", bad, err)
		}
	}
	entries := len(k.objects("log/"))
	if o := mustTakeOver(t, k.as("one"), "whoever"); o.Epoch != 1 || len(k.objects("log/")) != entries {
		t.Errorf("taking over what is ours: %+v, %d entries more", o, len(k.objects("log/"))-entries)
	}
	if o := mustTakeOver(t, k.as("two"), "one"); o.Owner != "two" || o.Epoch != 2 {
		t.Errorf("ownership %+v", o)
	}
}

// Row 18: a session that is open when the repository is taken over uploads on and cannot publish; nor can its installation
// publish it after it has taken the repository back. What it left is given up by the new owner.
func TestOwner_TakeOverDuringASession(t *testing.T) {
	k := newKeyed(t)
	one, two := k.as("one"), k.as("two")
	mustTakeOver(t, one, "")
	d := repotest.NewDisk(3 * chunkSize)
	d.Scribble(newRand(3), 3, 60<<10)
	s, err := one.Begin(t.Context(), repo.BeginOptions{VM: "vm-1"})
	if err != nil {
		t.Fatal(err)
	}
	if o := mustTakeOver(t, two, "one"); o.OpenSessions != 1 {
		t.Errorf("ownership %+v", o)
	}
	out, err := s.WriteDisk(t.Context(), repo.DiskInput{LUN: "os", SizeBytes: int64(len(d.Data)), Extents: repotest.Seq(d.Allocated()), Source: d})
	if err != nil {
		t.Fatal(err)
	}
	point := holdfast.Point{VM: "vm-1", Time: repotest.Start(), Disks: []holdfast.PointDisk{{LUN: "os", SizeBytes: int64(len(d.Data)), Root: out.Root}}}
	_, err = s.Publish(t.Context(), point, nil)
	mustBeOwned(t, "publishing after the take-over", err, "two")
	mustTakeOver(t, k.as("one"), "two")
	if _, err = s.Publish(t.Context(), point, nil); !holdfast.IsKind(err, holdfast.KindRefused) {
		t.Errorf("publishing in another epoch: %v", err)
	}
	mustTakeOver(t, k.as("two"), "one")
	if err := s.Close(t.Context(), "fenced"); err != nil {
		t.Errorf("closing a session that lost its repository: %v", err)
	}
	two = k.as("two")
	if points, err := two.Points(); err != nil || len(points) != 1 {
		t.Errorf("%d points, %v", len(points), err)
	}
	unsettled, err := two.Unsettled("vm-1")
	if err != nil || len(unsettled) != 1 || unsettled[0].Status != repo.SessionOpen {
		t.Fatalf("unsettled %+v, %v", unsettled, err)
	}
	if err := two.Abandon(t.Context(), unsettled[0].ID, "taken over"); err != nil {
		t.Error(err)
	}
	p := mustBackup(t, two, "vm-1", d, nil)
	mustEqual(t, k.as(""), p.ID, d.Data)
}

// Row 19: who reads or verifies is not disturbed by a take-over.
func TestOwner_ReadersAreNotDisturbed(t *testing.T) {
	k := newKeyed(t)
	reader := k.as("")
	mustTakeOver(t, k.as("one"), "")
	mustTakeOver(t, k.as("two"), "one")
	if err := reader.Refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	mustEqual(t, reader, k.point.ID, k.was)
	mustBeSound(t, k.store, reader)
}

// Row 27: of two take-overs from the same owner one succeeds, and the other is told by whom the repository is owned now.
func TestOwner_TwoTakeOvers(t *testing.T) {
	k := newKeyed(t)
	mustTakeOver(t, k.as("one"), "")
	two, three := k.as("two"), k.as("three")
	mustTakeOver(t, two, "one")
	_, err := three.TakeOver(t.Context(), "one")
	mustBeOwned(t, "the second take-over", err, "two")
}

// Row 28: a key change is judged after a take-over that came first, and a take-over follows the keys as everybody does.
func TestOwner_TakeOverAndKeyChange(t *testing.T) {
	k := newKeyed(t)
	one, two := k.as("one"), k.as("two")
	mustTakeOver(t, one, "")
	mustChange(t)(one.Rotate(t.Context(), repo.RotateOptions{}))
	mustTakeOver(t, two, "one")
	_, err := one.Rotate(t.Context(), repo.RotateOptions{})
	mustBeOwned(t, "the old owner's key change", err, "two")
	if change := mustChange(t)(two.Rotate(t.Context(), repo.RotateOptions{})); change.Generation != 3 {
		t.Errorf("generation %d", change.Generation)
	}
}

// Wherever a key change or a take-over stops, the repository is opened by the old secret or the new one as the log says,
// never by none; it is sound; and the change is made when it is made again.
func TestFaults_KeyChanges(t *testing.T) {
	type state struct {
		passwords []string // that may open afterwards, the newest first
		made      func(r *repo.Repository) bool
	}
	replace := func(r *repo.Repository, t *testing.T) error {
		report, err := r.Keys(t.Context())
		if err != nil {
			return err
		}
		slot := withPassword(secondPassword)
		slot.Replaces = report.Slots[0].ID
		_, err = r.AddSlot(t.Context(), slot)
		return err
	}
	generation := func(r *repo.Repository) uint32 {
		report, err := r.Keys(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return report.Generation
	}
	for name, row := range map[string]struct {
		change func(r *repo.Repository, t *testing.T) error
		after  state
	}{
		"password": {replace, state{[]string{secondPassword}, func(*repo.Repository) bool { return true }}},
		"rotation": {func(r *repo.Repository, t *testing.T) error {
			_, err := r.Rotate(t.Context(), repo.RotateOptions{})
			return err
		}, state{[]string{repotest.Password}, func(r *repo.Repository) bool { return generation(r) > 1 }}},
		"revocation": {func(r *repo.Repository, t *testing.T) error {
			_, err := r.Rotate(t.Context(), repo.RotateOptions{Revoke: true, Passwords: []string{repotest.Password}, KDF: repotest.FastKDF()})
			return err
		}, state{[]string{repotest.Password}, func(r *repo.Repository) bool { return generation(r) > 1 }}},
		"take-over": {func(r *repo.Repository, t *testing.T) error {
			_, err := r.TakeOver(t.Context(), "")
			return err
		}, state{[]string{repotest.Password}, func(r *repo.Repository) bool { return r.Ownership().Owner == "one" }}},
	} {
		t.Run(name, func(t *testing.T) {
			k := newKeyed(t)
			open := func(store blob.Store, password string) (*repo.Repository, error) {
				o := openOptions()
				o.Password, o.Installation = password, "one"
				return repo.Open(t.Context(), store, o)
			}
			flow := func(store blob.Store) error {
				r, err := open(store, repotest.Password)
				if err != nil {
					return err
				}
				return row.change(r, t)
			}
			everyFault(t, k.store, flow, func(t *testing.T, store *mem.Store, err error) {
				old, oldErr := open(store, repotest.Password)
				made := row.after.passwords[0] != repotest.Password && oldErr != nil || oldErr == nil && row.after.passwords[0] == repotest.Password && row.after.made(old)
				if oldErr != nil && !(made && holdfast.IsKind(oldErr, holdfast.KindWrongKey)) {
					t.Fatalf("the old password: %v", oldErr)
				}
				if err == nil && !made {
					t.Fatal("the change is said to be made, and is not")
				}
				present := repotest.Password
				if made {
					present = row.after.passwords[0]
				}
				r, openErr := open(store, present)
				if openErr != nil {
					t.Fatalf("the password that the log names: %v", openErr)
				}
				mustEqual(t, r, k.point.ID, k.was)
				mustBeSound(t, store, r)
				if !made {
					if present != row.after.passwords[0] {
						if _, err := open(store, row.after.passwords[0]); !holdfast.IsKind(err, holdfast.KindWrongKey) {
							t.Fatalf("the new password before the change: %v", err)
						}
					}
					if err := row.change(r, t); err != nil {
						t.Fatalf("made again: %v", err)
					}
					r, openErr = open(store, row.after.passwords[0])
					if openErr != nil {
						t.Fatal(openErr)
					}
				}
				mustBackup(t, r, "afterwards", k.disk, nil)
				mustBeSound(t, store, r)
			})
		})
	}
}
