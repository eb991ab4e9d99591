package repo_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/blob"
	"github.com/holdfast-backup/holdfast/internal/blob/mem"
	"github.com/holdfast-backup/holdfast/internal/repo"
	"github.com/holdfast-backup/holdfast/internal/repo/repotest"
)

const secondPassword = "a second password"

// keyed is a repository with one point, and what its objects were before any key changed.
type keyed struct {
	t     *testing.T
	store *mem.Store
	point holdfast.Point
	disk  *repotest.Disk
	was   []byte // content of the point
}

func newKeyed(t *testing.T) *keyed {
	t.Helper()
	k := &keyed{t: t, store: newStore()}
	r := repotest.Init(t, k.store)
	k.disk = repotest.NewDisk(6*chunkSize + 512)
	k.disk.Scribble(newRand(4), 6, 100<<10)
	k.was = bytes.Clone(k.disk.Data)
	k.point = mustBackup(t, r, "vm", k.disk, nil)
	return k
}

// open opens the repository with a password, "" meaning the vault.
func (k *keyed) open(password string, vault repo.Vault) (*repo.Repository, error) {
	o := openOptions()
	o.Password, o.Vault = password, vault
	return repo.Open(k.t.Context(), k.store, o)
}

func (k *keyed) mustOpen(password string, vault repo.Vault) *repo.Repository {
	k.t.Helper()
	r, err := k.open(password, vault)
	if err != nil {
		k.t.Fatalf("opening with %q: %v", password, err)
	}
	mustEqual(k.t, r, k.point.ID, k.was)
	return r
}

func (k *keyed) mustNotOpen(password string, vault repo.Vault, words string) {
	k.t.Helper()
	if _, err := k.open(password, vault); !holdfast.IsKind(err, holdfast.KindWrongKey) || !strings.Contains(err.Error(), words) {
		k.t.Fatalf("opening with %q, want %q: %v", password, words, err)
	}
}

// objects returns the names of a kind of object.
func (k *keyed) objects(prefix string) []string {
	return slices.DeleteFunc(k.store.Adversary().Names(), func(name string) bool { return !strings.HasPrefix(name, prefix) })
}

func (k *keyed) bytes(name string) []byte {
	k.t.Helper()
	data, err := blob.ReadAll(k.t.Context(), k.store, name, 1<<30)
	if err != nil {
		k.t.Fatal(err)
	}
	return data
}

// generations counts the data packs by the generation in their header (doc/format.md §5).
func (k *keyed) generations() map[uint32]int {
	found := map[uint32]int{}
	for _, name := range k.objects("data/") {
		found[binary.BigEndian.Uint32(k.bytes(name)[8:])]++
	}
	return found
}

func mustChange(t *testing.T) func(repo.KeyChange, error) repo.KeyChange {
	return func(change repo.KeyChange, err error) repo.KeyChange {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return change
	}
}

func withPassword(password string) repo.NewSlot {
	return repo.NewSlot{Password: password, KDF: repotest.FastKDF()}
}

// Several passwords open a repository at once; one that is removed does not any more and is told why; the last one cannot be
// removed. No data is written again.
func TestKeys_SeveralPasswords(t *testing.T) {
	k := newKeyed(t)
	r := k.mustOpen(repotest.Password, nil)
	packs := k.objects("data/")
	second := withPassword(secondPassword)
	second.Label = "second"
	added := mustChange(t)(r.AddSlot(t.Context(), second))
	if len(added.Added) != 1 || added.Added[0].Label != "second" || !added.Added[0].Current || added.Exposed != nil || added.Generation != 1 {
		t.Errorf("change %+v", added)
	}
	k.mustOpen(repotest.Password, nil)
	k.mustOpen(secondPassword, nil)
	if _, err := r.AddSlot(t.Context(), second); !holdfast.IsKind(err, holdfast.KindInvalid) {
		t.Errorf("a label twice: %v", err)
	}
	report, err := r.Keys(t.Context())
	if err != nil || len(report.Slots) != 2 || !report.Slots[0].Used || report.Slots[1].Used {
		t.Fatalf("keys %+v, %v", report, err)
	}
	dropped := mustChange(t)(r.RemoveSlot(t.Context(), report.Slots[0].ID[:10]))
	if len(dropped.Dropped) != 1 || dropped.Dropped[0].ID != report.Slots[0].ID {
		t.Errorf("change %+v", dropped)
	}
	k.mustNotOpen(repotest.Password, nil, "any more")
	k.mustNotOpen("never", nil, "does not open")
	r = k.mustOpen(secondPassword, nil)
	if _, err := r.RemoveSlot(t.Context(), "second"); !holdfast.IsKind(err, holdfast.KindRefused) {
		t.Errorf("the last slot: %v", err)
	}
	if _, err := r.RemoveSlot(t.Context(), "third"); !holdfast.IsKind(err, holdfast.KindNotFound) {
		t.Errorf("a slot that is not there: %v", err)
	}
	report, err = r.Keys(t.Context())
	if err != nil || len(report.Slots) != 2 || !report.Slots[0].Current || report.Slots[1].Current {
		t.Errorf("the old slot still lies there, and the keys are %+v, %v", report, err)
	}
	if now := k.objects("data/"); !slices.Equal(now, packs) {
		t.Errorf("packs were %v and are %v", packs, now)
	}
	mustChange(t)(r.AddSlot(t.Context(), withPassword(repotest.Password))) // for the check at the end
}

// A change of the password is one entry: the new one opens, the old one does not, and there is no moment between.
func TestKeys_ChangeOfPassword(t *testing.T) {
	k := newKeyed(t)
	r := k.mustOpen(repotest.Password, nil)
	entries := len(k.objects("log/"))
	report, err := r.Keys(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	change := withPassword(secondPassword)
	change.Replaces = report.Slots[0].ID
	mustChange(t)(r.AddSlot(t.Context(), change))
	if now := len(k.objects("log/")); now != entries+1 {
		t.Errorf("%d entries for one change", now-entries)
	}
	k.mustNotOpen(repotest.Password, nil, "any more")
	r = k.mustOpen(secondPassword, nil)
	mustChange(t)(r.AddSlot(t.Context(), withPassword(repotest.Password)))
	if after, err := r.Keys(t.Context()); err != nil || after.Checksum == report.Checksum {
		t.Errorf("the checksum does not tell another state of the keys: %+v, %v", after, err)
	}
}

// After a rotation new packs are sealed with the new generation, old ones stay readable, and nothing is written again; the
// handle that rotated and one that was open meanwhile write with it too.
func TestKeys_Rotation(t *testing.T) {
	k := newKeyed(t)
	r, other := k.mustOpen(repotest.Password, nil), k.mustOpen(repotest.Password, nil)
	first := k.generations()[1]
	if change := mustChange(t)(r.Rotate(t.Context(), repo.RotateOptions{})); change.Generation != 2 || len(change.Added)+len(change.Dropped) > 0 {
		t.Errorf("change %+v", change)
	}
	for i, handle := range []*repo.Repository{r, other, k.mustOpen(repotest.Password, nil)} {
		d := repotest.NewDisk(3 * chunkSize)
		d.Scribble(newRand(uint64(40+i)), 5, 60<<10)
		p := mustBackup(t, handle, fmt.Sprint("vm-", i), d, nil)
		mustEqual(t, k.mustOpen(repotest.Password, nil), p.ID, d.Data)
	}
	if found := k.generations(); found[1] != first || found[2] != 3 || len(found) != 2 {
		t.Errorf("packs by generation: %v, before %d", found, first)
	}
}

// vault is a vault of one key: it wraps by a mask of its own, and says what it is told to say.
type vault struct {
	mask    byte
	version int
	err     error
}

func (v *vault) Wrap(_ context.Context, keyID string, plain []byte) (repo.WrappedKey, error) {
	if v.err != nil {
		return repo.WrappedKey{}, v.err
	}
	return repo.WrappedKey{KeyID: fmt.Sprintf("%s/v%d", keyID, v.version), Algorithm: "RSA-OAEP-256", Bytes: v.masked(plain)}, nil
}

func (v *vault) Unwrap(_ context.Context, w repo.WrappedKey) ([]byte, error) {
	return v.masked(w.Bytes), v.err
}

func (v *vault) masked(p []byte) []byte {
	out := bytes.Clone(p)
	for i := range out {
		out[i] ^= v.mask
	}
	return out
}

const vaultKey = "https://shop.vault.azure.net/keys/backup"

// A vault key opens a repository where no password is given, a password never falls back to it, and what the vault says is what
// the person hears.
func TestKeys_Vault(t *testing.T) {
	k := newKeyed(t)
	r := k.mustOpen(repotest.Password, nil)
	if _, err := r.AddSlot(t.Context(), repo.NewSlot{VaultKey: vaultKey}); !holdfast.IsKind(err, holdfast.KindInvalid) {
		t.Errorf("a vault key without a vault: %v", err)
	}
	keyVault := &vault{mask: 0x5a}
	o := openOptions()
	o.Vault = keyVault
	r, err := repo.Open(t.Context(), k.store, o)
	if err != nil {
		t.Fatal(err)
	}
	change := mustChange(t)(r.AddSlot(t.Context(), repo.NewSlot{VaultKey: vaultKey, Label: "vault"}))
	if change.Added[0].VaultKey != vaultKey+"/v0" || change.Added[0].Kind != "vault" {
		t.Errorf("change %+v", change)
	}
	if r := k.mustOpen("", keyVault); r == nil {
		t.Fatal("no handle")
	}
	k.mustNotOpen("wrong", keyVault, "password does not open")
	k.mustNotOpen("", nil, "")
	k.mustNotOpen("", &vault{mask: 1}, "does not open")
	keyVault.err = holdfast.Errorf(holdfast.KindRefused, "the key is disabled")
	if _, err := k.open("", keyVault); !holdfast.IsKind(err, holdfast.KindRefused) || !strings.Contains(err.Error(), "disabled") {
		t.Errorf("a disabled key: %v", err)
	}
	k.mustOpen(repotest.Password, keyVault)
	if _, err := r.AddSlot(t.Context(), repo.NewSlot{VaultKey: vaultKey}); !holdfast.IsKind(err, holdfast.KindRefused) {
		t.Errorf("wrapping with a disabled key: %v", err)
	}
}

// The last slot is not always the only one: what is left beside it may be damaged, or a vault key that does not open now. Then it cannot be
// removed, and the refusal says what the vault said.
func TestKeys_LastUsableSlot(t *testing.T) {
	k := newKeyed(t)
	keyVault := &vault{mask: 0x5a}
	r := k.mustOpen(repotest.Password, keyVault)
	report, err := r.Keys(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	first := report.Slots[0].ID
	second := mustChange(t)(r.AddSlot(t.Context(), withPassword(secondPassword))).Added[0].ID
	mustRefuse := func(r *repo.Repository, words string) {
		t.Helper()
		var e *holdfast.Error
		if _, err := r.RemoveSlot(t.Context(), first); !errors.As(err, &e) || e.Kind != holdfast.KindRefused || !strings.Contains(err.Error(), words) || e.Hint == "" {
			t.Errorf("want %q: %v", words, err)
		}
	}
	flip := func() { harm(t, k.store, "keys/"+second, true) }
	flip()
	mustRefuse(r, "last key slot")
	mustChange(t)(r.AddSlot(t.Context(), repo.NewSlot{VaultKey: vaultKey}))
	mustRefuse(k.mustOpen(repotest.Password, nil), "no Azure identity")
	keyVault.err = holdfast.Errorf(holdfast.KindNotFound, "the key was purged")
	mustRefuse(r, "purged")
	mustRefuse(k.mustOpen(repotest.Password, &vault{mask: 1}), "another key")
	k.mustOpen(repotest.Password, nil)
	keyVault.err = nil
	mustChange(t)(r.RemoveSlot(t.Context(), first))
	r = k.mustOpen("", keyVault)
	flip()                                                                 // whole again
	mustChange(t)(r.AddSlot(t.Context(), withPassword(repotest.Password))) // for the check at the end
}

// A revocation that does not reach the log changes nothing: what the same handle wraps afterwards is the key that opens the ring in force.
func TestKeys_AfterARevocationThatFailed(t *testing.T) {
	k := newKeyed(t)
	failing := &noEntries{Store: k.store}
	o := openOptions()
	r, err := repo.Open(t.Context(), failing, o)
	if err != nil {
		t.Fatal(err)
	}
	failing.on = true
	revoke := repo.RotateOptions{Revoke: true, Passwords: []string{repotest.Password}, KDF: repotest.FastKDF()}
	if _, err := r.Rotate(t.Context(), revoke); !holdfast.IsKind(err, holdfast.KindUnavailable) {
		t.Fatal(err)
	}
	failing.on = false
	mustChange(t)(r.AddSlot(t.Context(), withPassword(secondPassword)))
	k.mustOpen(secondPassword, nil)
	mustChange(t)(r.Rotate(t.Context(), repo.RotateOptions{}))
	k.mustOpen(secondPassword, nil)
	revoke.Passwords = append(revoke.Passwords, secondPassword)
	mustChange(t)(r.Rotate(t.Context(), revoke))
	mustChange(t)(r.AddSlot(t.Context(), withPassword("third")))
	for _, password := range []string{repotest.Password, secondPassword, "third"} {
		k.mustOpen(password, nil)
	}
}

// noEntries is a store whose log takes no entries while on.
type noEntries struct {
	*mem.Store
	on bool
}

func (n *noEntries) Put(ctx context.Context, name string, data []byte, o blob.PutOptions) error {
	if n.on && strings.HasPrefix(name, "log/") {
		return holdfast.Errorf(holdfast.KindUnavailable, "injected")
	}
	return n.Store.Put(ctx, name, data, o)
}

// A repository may be born with a vault key and no password.
func TestKeys_BornWithAVaultKey(t *testing.T) {
	store, keyVault := newStore(), &vault{mask: 7}
	r, err := repo.Init(t.Context(), store, repo.InitOptions{VaultKey: vaultKey, Vault: keyVault, Clock: openOptions().Clock})
	if err != nil {
		t.Fatal(err)
	}
	d := repotest.NewDisk(chunkSize)
	d.Write(0, []byte("content"))
	p := mustBackup(t, r, "vm", d, nil)
	o := openOptions()
	o.Password, o.Vault = "", keyVault
	again, err := repo.Open(t.Context(), store, o)
	if err != nil {
		t.Fatal(err)
	}
	mustEqual(t, again, p.ID, d.Data)
	if info, err := again.Info(t.Context()); err != nil || !info.Encrypted {
		t.Errorf("info %+v, %v", info, err)
	}
	mustBeSound(t, store, again)
}

// A recovery code opens the repository however it is typed, and is not kept anywhere.
func TestKeys_RecoveryCode(t *testing.T) {
	k := newKeyed(t)
	change := mustChange(t)(k.mustOpen(repotest.Password, nil).AddSlot(t.Context(), repo.NewSlot{RecoveryCode: true, Label: "paper", KDF: repotest.FastKDF()}))
	code := change.RecoveryCode
	if len(code) != 39 || strings.Count(code, "-") != 7 || !change.Added[0].RecoveryCode {
		t.Fatalf("code %q, change %+v", code, change)
	}
	for _, typed := range []string{code, strings.ToLower(code), strings.ReplaceAll(code, "-", ""), strings.ReplaceAll(code, "0", "o"), " " + strings.ReplaceAll(code, "1", "l")} {
		k.mustOpen(typed, nil)
	}
	k.mustNotOpen(code[:38]+string("23"[btoi(code[38] == '2')]), nil, "does not open")
	for _, name := range k.store.Adversary().Names() {
		if bytes.Contains(k.bytes(name), []byte(code)) {
			t.Errorf("%s holds the code", name)
		}
	}
}

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
}

// A revocation keeps the slots whose secret is at hand, ends the others, and names what stays exposed; who has the old key reads
// and writes nothing new, even with every old object at hand.
func TestKeys_Revocation(t *testing.T) {
	k := newKeyed(t)
	keyVault := &vault{mask: 3}
	o := openOptions()
	o.Vault = keyVault
	r, err := repo.Open(t.Context(), k.store, o)
	if err != nil {
		t.Fatal(err)
	}
	second := withPassword(secondPassword)
	second.Label = "second"
	mustChange(t)(r.AddSlot(t.Context(), second))
	mustChange(t)(r.AddSlot(t.Context(), repo.NewSlot{VaultKey: vaultKey, Label: "vault"}))
	outsider := k.mustOpen(secondPassword, nil)
	options := repo.RotateOptions{Revoke: true, Passwords: []string{repotest.Password}, KDF: repotest.FastKDF()}
	if _, err := r.Rotate(t.Context(), options); !holdfast.IsKind(err, holdfast.KindInvalid) || !strings.Contains(err.Error(), `"second"`) {
		t.Fatalf("a slot that is neither kept nor dropped: %v", err)
	}
	options.Drop = []string{"second"}
	keyVault.version = 1
	change := mustChange(t)(r.Rotate(t.Context(), options))
	if change.Exposed == nil || len(change.Exposed.Slots) != 3 || !slices.Equal(change.Exposed.Points, []holdfast.PointID{k.point.ID}) ||
		len(change.Added) != 2 || len(change.Dropped) != 3 || change.Generation != 2 {
		t.Errorf("change %+v, exposed %+v", change, change.Exposed)
	}
	if logged := k.objects("log/"); !bytes.Contains(k.bytes(logged[len(logged)-1]), []byte(`"leastGeneration":2`)) {
		t.Errorf("the log does not end the old generation: %s", k.bytes(logged[len(logged)-1]))
	}
	if change.Added[1].Label != "vault" || change.Added[1].VaultKey != vaultKey+"/v1" {
		t.Errorf("the vault's slot is wrapped anew as %+v", change.Added[1])
	}
	k.mustOpen(repotest.Password, nil)
	k.mustOpen("", keyVault)
	k.mustNotOpen(secondPassword, nil, "any more")

	d := repotest.NewDisk(chunkSize)
	d.Write(0, []byte("after"))
	mustBackup(t, r, "after", d, nil)
	if _, err := repotest.Backup(t.Context(), outsider, "vm-2", d, nil); !holdfast.IsKind(err, holdfast.KindWrongKey) {
		t.Errorf("who opened it with the old key writes: %v", err)
	}
	if err := outsider.Refresh(t.Context()); !holdfast.IsKind(err, holdfast.KindWrongKey) {
		t.Errorf("who opened it with the old key reads on: %v", err)
	}
	mustEqual(t, outsider, k.point.ID, k.was) // what is exposed is exposed
}

// The first password of a repository that was not encrypted encrypts it: the old key in clear opens nothing any more, and there
// is no way back.
func TestKeys_EncryptionIsOneWay(t *testing.T) {
	store := newStore()
	r, err := repo.Init(t.Context(), store, repo.InitOptions{Unencrypted: true, Clock: openOptions().Clock})
	if err != nil {
		t.Fatal(err)
	}
	k := &keyed{t: t, store: store, disk: repotest.NewDisk(2 * chunkSize)}
	k.disk.Write(0, []byte("in clear"))
	k.was = bytes.Clone(k.disk.Data)
	k.point = mustBackup(t, r, "vm", k.disk, nil)
	if _, err := r.Rotate(t.Context(), repo.RotateOptions{Revoke: true}); !holdfast.IsKind(err, holdfast.KindInvalid) {
		t.Errorf("revoking no secret: %v", err)
	}
	change := mustChange(t)(r.AddSlot(t.Context(), withPassword(repotest.Password)))
	if change.Exposed == nil || len(change.Exposed.Points) != 1 || change.Dropped[0].Kind != "open" {
		t.Errorf("change %+v", change)
	}
	k.mustNotOpen("", nil, "no password was given")
	again := k.mustOpen(repotest.Password, nil)
	if info, err := again.Info(t.Context()); err != nil || !info.Encrypted {
		t.Errorf("info %+v, %v", info, err)
	}
	mustBeSound(t, store, again)
}

// Row 20 of doc/concurrency.md: a session that is open while a password is changed and the key rotated publishes, also when its own
// password is dropped.
func TestKeys_OpenSessionGoesOn(t *testing.T) {
	k := newKeyed(t)
	writer, admin := k.mustOpen(repotest.Password, nil), k.mustOpen(repotest.Password, nil)
	d := repotest.NewDisk(4 * chunkSize)
	d.Scribble(newRand(9), 4, 60<<10)
	s, err := writer.Begin(t.Context(), repo.BeginOptions{VM: "vm-2", Resources: func(holdfast.SessionID) (any, error) { return "snapshot", nil }})
	if err != nil {
		t.Fatal(err)
	}
	mustChange(t)(admin.AddSlot(t.Context(), withPassword(secondPassword)))
	report, err := admin.Keys(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	mustChange(t)(admin.RemoveSlot(t.Context(), report.Slots[0].ID))
	mustChange(t)(admin.Rotate(t.Context(), repo.RotateOptions{}))
	out, err := s.WriteDisk(t.Context(), repo.DiskInput{LUN: "os", SizeBytes: int64(len(d.Data)), Extents: repotest.Seq(d.Allocated()), Source: d})
	if err != nil {
		t.Fatal(err)
	}
	published, err := s.Publish(t.Context(), holdfast.Point{
		VM: "vm-2", Name: "vm-2", Time: repotest.Start(), Disks: []holdfast.PointDisk{{LUN: "os", SizeBytes: int64(len(d.Data)), Root: out.Root}},
	}, "left behind")
	if err != nil {
		t.Fatal(err)
	}
	again := k.mustOpen(secondPassword, nil)
	mustEqual(t, again, published.ID, d.Data)
	if u, err := again.Unsettled("vm-2"); err != nil || len(u) != 1 || string(u[0].Resources) != `"snapshot"` || string(u[0].PublishResources) != `"left behind"` {
		t.Errorf("the session's journal is %+v, %v", u, err)
	}
	mustChange(t)(again.AddSlot(t.Context(), withPassword(repotest.Password)))
}

// Row 21: a reader that is open while the key is rotated reads what is written afterwards, too.
func TestKeys_OpenReaderGoesOn(t *testing.T) {
	k := newKeyed(t)
	reader, admin := k.mustOpen(repotest.Password, nil), k.mustOpen(repotest.Password, nil)
	mustChange(t)(admin.Rotate(t.Context(), repo.RotateOptions{}))
	d := repotest.NewDisk(2 * chunkSize)
	d.Scribble(newRand(10), 3, 60<<10)
	p := mustBackup(t, admin, "vm-2", d, nil)
	mustEqual(t, reader, k.point.ID, k.was)
	if err := reader.Refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	mustEqual(t, reader, p.ID, d.Data)
}

// Row 29: key changes by two handles that know nothing of each other are made one after the other, and none undoes another.
func TestKeys_TwoChanges(t *testing.T) {
	k := newKeyed(t)
	a, b := k.mustOpen(repotest.Password, nil), k.mustOpen(repotest.Password, nil)
	mustChange(t)(a.Rotate(t.Context(), repo.RotateOptions{}))
	mustChange(t)(b.AddSlot(t.Context(), withPassword(secondPassword)))
	if change := mustChange(t)(b.Rotate(t.Context(), repo.RotateOptions{})); change.Generation != 3 {
		t.Errorf("generation %d", change.Generation)
	}
	mustChange(t)(a.Rotate(t.Context(), repo.RotateOptions{Revoke: true, Passwords: []string{repotest.Password, secondPassword}, KDF: repotest.FastKDF()}))
	if _, err := b.AddSlot(t.Context(), withPassword("third")); !holdfast.IsKind(err, holdfast.KindWrongKey) {
		t.Errorf("a handle with the old key changes keys: %v", err)
	}
	for _, password := range []string{repotest.Password, secondPassword} {
		if report, err := k.mustOpen(password, nil).Keys(t.Context()); err != nil || report.Generation != 4 || report.Generations != 4 {
			t.Errorf("keys %+v, %v", report, err)
		}
	}
	k.mustNotOpen("third", nil, "does not open")
}

// takesKeys is a store beside which a collection takes the first new key object for a leftover.
type takesKeys struct {
	blob.Store
	take func(name string)
	done bool
}

func (s *takesKeys) Put(ctx context.Context, name string, data []byte, o blob.PutOptions) error {
	err := s.Store.Put(ctx, name, data, o)
	if err == nil && strings.HasPrefix(name, "keys/") && !s.done {
		s.done = true
		s.take(name)
	}
	return err
}

// Row 26: when a collection takes the objects of a key change before the log names them, the change is made anew with others,
// whether the objects are condemned or already gone.
func TestKeys_CollectedBeforeTheyAreNamed(t *testing.T) {
	for _, swept := range []bool{false, true} {
		k := newKeyed(t)
		collector := k.mustOpen(repotest.Password, nil)
		store := &takesKeys{Store: k.store}
		store.take = func(name string) {
			list, err := repo.Condemn(t.Context(), collector, name)
			if err == nil && swept {
				k.store.Adversary().Erase(name)
				err = repo.Sweep(t.Context(), collector, list)
			}
			if err != nil {
				t.Error(err)
			}
		}
		r, err := repo.Open(t.Context(), store, openOptions())
		if err != nil {
			t.Fatal(err)
		}
		// The condemnation lies between the change's look at the log and its entry, which loses the race and is made anew.
		change := mustChange(t)(r.AddSlot(t.Context(), withPassword(secondPassword)))
		if len(change.Added) != 1 || !store.done {
			t.Errorf("change %+v", change)
		}
		k.mustOpen(secondPassword, nil)
	}
}

// forge appends a log entry as somebody does who can write to the store and has no key: chain and checksum are right, the MAC is not.
func (k *keyed) forge(fields string) {
	k.t.Helper()
	names := k.objects("log/")
	last := names[len(names)-1]
	hash := sha256.Sum256(k.bytes(last))
	_, genesis, _ := bytes.Cut(k.bytes(names[0]), []byte(`"repository":"`))
	line := fmt.Sprintf(`{"holdfast":1,"n":%d,"repository":"%s","previous":"%x","time":"2026-03-01T12:00:00Z","writer":"%032x","generation":1,"checkpoint":0,%s}`,
		len(names), genesis[:32], hash, 7, fields)
	text := fmt.Sprintf("%s\nmac %064x\n", line, 5)
	sum := sha256.Sum256([]byte(text))
	k.store.Adversary().Overwrite(fmt.Sprintf("log/%020d", len(names)), fmt.Appendf(nil, "%ssum %x\n", text, sum))
}

// Somebody without a key who appends a key change of his own locks nobody out and lets nobody in: the authentic log decides.
func TestKeys_ForgedKeyChanges(t *testing.T) {
	stranger := newKeyed(t)
	plant := func(k *keyed, name string) string {
		data := stranger.bytes(name)
		hash := sha256.Sum256(data)
		planted := "keys/" + hex.EncodeToString(hash[:])
		k.store.Adversary().Overwrite(planted, data)
		return planted
	}
	for what, forge := range map[string]func(k *keyed){
		"slots of his own": func(k *keyed) {
			names := stranger.objects("keys/")
			k.forge(fmt.Sprintf(`"kind":"keys","slots":[%q],"keyRing":%q`, plant(k, names[0]), plant(k, names[1])))
		},
		"slots that are not there": func(k *keyed) {
			k.forge(fmt.Sprintf(`"kind":"keys","slots":["keys/%064x"],"keyRing":"keys/%064x"`, 1, 2))
		},
		"an old slot with the old ring": func(k *keyed) {
			names := k.objects("keys/")
			k.forge(fmt.Sprintf(`"kind":"keys","slots":[%q,%q,%q,%q],"keyRing":%q`, names[0], names[1], names[2], names[3], names[0]))
		},
		"a generation that ends all": func(k *keyed) {
			names := k.objects("keys/")
			k.forge(fmt.Sprintf(`"kind":"keys","slots":[%q],"keyRing":%q,"leastGeneration":99`, names[0], names[1]))
		},
	} {
		t.Run(what, func(t *testing.T) {
			k := newKeyed(t)
			r := k.mustOpen(repotest.Password, nil)
			change := withPassword(secondPassword)
			report, err := r.Keys(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			change.Replaces = report.Slots[0].ID
			mustChange(t)(r.AddSlot(t.Context(), change))
			mustChange(t)(r.Rotate(t.Context(), repo.RotateOptions{}))
			p := mustBackup(t, r, "vm-2", k.disk, nil)
			names := k.store.Adversary().Names()
			forge(k)
			opened := k.mustOpen(secondPassword, nil)
			mustEqual(t, opened, p.ID, k.disk.Data)
			k.mustNotOpen(repotest.Password, nil, "any more")
			if len(opened.Damage()) == 0 {
				t.Error("the forged entry is not named")
			}
			for _, name := range k.store.Adversary().Names() { // for the check at the end
				if !slices.Contains(names, name) {
					k.store.Adversary().Erase(name)
				}
			}
			mustChange(t)(k.mustOpen(secondPassword, nil).AddSlot(t.Context(), withPassword(repotest.Password)))
		})
	}
}

// When the entry of the newest key change is lost, its password still opens what is left.
func TestKeys_LostKeyChange(t *testing.T) {
	k := newKeyed(t)
	r := k.mustOpen(repotest.Password, nil)
	names := k.objects("log/")
	mustChange(t)(r.AddSlot(t.Context(), withPassword(secondPassword)))
	mustBackup(t, r, "vm-2", k.disk, nil)
	lost := fmt.Sprintf("log/%020d", len(names))
	was := k.bytes(lost)
	k.store.Adversary().Erase(lost)
	opened := k.mustOpen(secondPassword, nil)
	if len(opened.Damage()) != 1 {
		t.Errorf("damage %v", opened.Damage())
	}
	k.store.Adversary().Overwrite(lost, was)
}

// What NewSlot and labels accept.
func TestKeys_BadSlots(t *testing.T) {
	k := newKeyed(t)
	r := k.mustOpen(repotest.Password, nil)
	for what, slot := range map[string]repo.NewSlot{
		"nothing": {}, "two secrets": {Password: "a", RecoveryCode: true}, "a long label": {Password: "a", Label: strings.Repeat("x", 101)},
		"a label with a newline": {Password: "a", Label: "a\nb"}, "a cost out of bounds": {Password: "a", KDF: repo.KDFCost{Time: 1000}},
	} {
		if _, err := r.AddSlot(t.Context(), slot); !holdfast.IsKind(err, holdfast.KindInvalid) {
			t.Errorf("%s: %v", what, err)
		}
	}
	for i := range 15 {
		mustChange(t)(r.AddSlot(t.Context(), withPassword(fmt.Sprint("password ", i))))
	}
	if _, err := r.AddSlot(t.Context(), withPassword("one more")); !holdfast.IsKind(err, holdfast.KindInvalid) {
		t.Errorf("a seventeenth slot: %v", err)
	}
	if objects := slices.Sorted(maps.Keys(k.generations())); len(objects) != 1 {
		t.Errorf("generations %v", objects)
	}
}
