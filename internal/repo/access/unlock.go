// Package access decides who gets into a repository and who may write to it: it opens slots and rings, changes them, and moves
// ownership. The bytes and rules are those of doc/format.md §4, §6.3 and §12.
//
// It promises that the authenticated log has the last word: a slot that a key change dropped opens nothing, whatever lies in the
// store, and an entry that a stranger appended locks nobody out. It must never write a secret anywhere, and never leave
// a repository that no slot opens.
package access

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/blob"
	"github.com/holdfast-backup/holdfast/internal/clock"
	"github.com/holdfast-backup/holdfast/internal/repo/keys"
	"github.com/holdfast-backup/holdfast/internal/repo/layout"
	"github.com/holdfast-backup/holdfast/internal/repo/oplog"
)

// Vault wraps and unwraps repository keys with keys that never leave it. Errors are *holdfast.Error: KindNotFound for a key
// that is deleted or never was, KindRefused for one that is disabled, expired or not permitted, KindWrongKey for bytes that
// another key wrapped.
type Vault interface {
	// Wrap wraps a key of 32 bytes. keyID names the vault's key, https://VAULT/keys/NAME, with or without a version; the
	// answer names the version that was used.
	Wrap(ctx context.Context, keyID string, plain []byte) (WrappedKey, error)
	// Unwrap returns what Wrap was given.
	Unwrap(ctx context.Context, w WrappedKey) ([]byte, error)
}

// WrappedKey is a repository key as a vault wrapped it.
type WrappedKey = keys.Wrapped

// Options tell how a repository is opened.
type Options struct {
	Store blob.Store
	// Read returns a key object that proves itself by its name. One that is missing or does not is KindCorrupt.
	Read         ReadObject
	Log          *oplog.Log
	Password     string
	Vault        Vault  // opens vault slots where there is no Password; nil for none
	Installation string // whom the writer belongs to; "" for nobody
	Clock        clock.Clock
	Logger       *slog.Logger
	// LockLike, optional, locks new key objects as long as the shortest lock among others, before the log names them.
	LockLike func(ctx context.Context, added, others []string) error
}

// ReadObject reads a whole object.
type ReadObject func(ctx context.Context, name string) ([]byte, error)

// Opened is a repository that a secret has opened: its ring, and the right to change keys and ownership. Safe for concurrent use.
type Opened struct {
	Ring *keys.Ring // grows when the key is rotated

	options Options
	id      keys.RepositoryID
	known   *repositoryKeys
	slot    string // that opened it
}

// repositoryKeys are the repository keys that a handle knows: the one it was opened with, and those that it made itself. Safe for
// concurrent use.
type repositoryKeys struct {
	read ReadObject
	id   keys.RepositoryID

	mu      sync.Mutex // guards the fields below
	known   [][]byte   // newest last; one that was made for a change which did not come about opens nothing
	present []byte     // opens the ring in force
}

func (k *repositoryKeys) add(key []byte) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.known = append(k.known, key)
}

// use makes a key the present one.
func (k *repositoryKeys) use(key []byte) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.present = key
}

// current returns the present repository key.
func (k *repositoryKeys) current() []byte {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.present
}

// reopen opens a ring that a key change made current. A ring under a key that the handle does not know is KindWrongKey.
func (k *repositoryKeys) reopen(ctx context.Context, keyRing string) (*keys.Ring, error) {
	k.mu.Lock()
	known := slices.Clone(k.known)
	k.mu.Unlock()
	data, err := k.read(ctx, keyRing)
	if err != nil {
		return nil, err
	}
	for _, key := range slices.Backward(known) {
		ring, err := keys.DecodeRing(data, k.id, key)
		if err == nil {
			k.use(key)
		}
		if !holdfast.IsKind(err, holdfast.KindWrongKey) {
			return ring, err
		}
	}
	return nil, holdfast.Errorf(holdfast.KindWrongKey, "the repository has a new key since this program opened it").
		WithHint("run again: it then opens the repository with the new key, if its password or vault key still fits")
}

// unlocked is what opened a repository.
type unlocked struct {
	slot          string // object name
	repositoryKey []byte
	keyRing       string // object name
	ring          *keys.Ring
}

// Unlock finds a slot that opens, and lets the log judge: only entries that the ring authenticates count, and the slot must be
// one of those that the newest of them names. So neither an entry that a stranger appended nor a slot that a key change
// dropped decides who may in. A secret that does not fit is KindWrongKey, damage that prevents opening KindCorrupt; what a
// vault says is returned as it is.
func Unlock(ctx context.Context, o Options) (*Opened, error) {
	known := &repositoryKeys{read: o.Read, id: o.Log.State().Repository}
	used, err := unlock(ctx, known, o)
	if err != nil {
		return nil, err
	}
	return &Opened{Ring: used.ring, options: o, id: known.id, known: known, slot: used.slot}, nil
}

func unlock(ctx context.Context, known *repositoryKeys, o Options) (unlocked, error) {
	entries := o.Log
	lossy := len(entries.Damage()) > 0 // then the newest key change may be what is lost
	u := &unlocker{id: known.id, options: o, sets: entries.KeySets(), tried: map[string]bool{}}
	used, err := u.find(ctx)
	if err != nil {
		return unlocked{}, err
	}
	known.add(used.repositoryKey)
	known.use(used.repositoryKey)
	for range ringStepsMax {
		if err := entries.Unlock(ctx, oplog.Access{Ring: used.ring, Reopen: known.reopen, Installation: o.Installation}); err != nil {
			return unlocked{}, err
		}
		state := entries.State()
		if state.KeyRing == used.keyRing || lossy {
			if !slices.Contains(state.Slots, used.slot) && !lossy {
				return unlocked{}, u.dropped()
			}
			return used, nil
		}
		newer, err := u.ring(ctx, state.KeyRing, used.repositoryKey)
		if holdfast.IsKind(err, holdfast.KindWrongKey) || err == nil && newer.Current() <= used.ring.Current() && !slices.Contains(state.Slots, used.slot) {
			return unlocked{}, u.dropped()
		}
		if err != nil {
			return unlocked{}, err
		}
		used.ring, used.keyRing = newer, state.KeyRing
	}
	return unlocked{}, holdfast.Errorf(holdfast.KindCorrupt, "the key changes in the log do not lead to a key ring")
}

// ringStepsMax bounds the rotations that are followed from an old key set to the newest: there are several only after somebody
// has tampered with the log.
const ringStepsMax = 64

// dropped refuses a slot that a key change has ended. What a vault said of a slot that is in force tells more.
func (u *unlocker) dropped() error {
	var said *vaultRefusal
	if errors.As(u.refusal, &said) {
		return said
	}
	if o := u.options; o.Password == "" && o.Vault == nil { // the slot needed no secret: the repository was encrypted since
		return noPassword()
	}
	return holdfast.Errorf(holdfast.KindWrongKey, "the password or vault key does not open this repository any more: a key change has dropped it").
		WithHint("give the present password, or a vault key or recovery code that is still in force")
}

// unlocker looks for a slot that opens and a ring that its key opens.
type unlocker struct {
	id      keys.RepositoryID
	options Options
	sets    []oplog.KeySet // newest first
	tried   map[string]bool
	refusal error // the most telling one so far
}

// strangeSlotsMax bounds the slots that are tried beyond those of the log: each costs a key derivation.
const strangeSlotsMax = 32

// find tries the slots of the newest key set, then those of older ones, then all that the store lists: the newest sets may
// be a stranger's.
func (u *unlocker) find(ctx context.Context) (unlocked, error) {
	for _, set := range u.sets {
		used, err := u.try(ctx, set.Slots, []string{set.KeyRing})
		if err != nil || used.ring != nil {
			return used, err
		}
	}
	if u.refusal == nil {
		u.refusal = holdfast.Errorf(holdfast.KindCorrupt, "the repository has no key slot")
	}
	if u.options.Password == "" && u.options.Vault == nil {
		return unlocked{}, u.refusal
	}
	var listed, rings []string
	for info, err := range u.options.Store.List(ctx, layout.KeysPrefix) {
		if err != nil {
			return unlocked{}, u.refusal // best effort: what the log names did not open
		}
		if !u.tried[info.Name] && len(listed) < strangeSlotsMax {
			listed = append(listed, info.Name)
		}
	}
	for _, set := range u.sets {
		rings = append(rings, set.KeyRing)
	}
	used, err := u.try(ctx, listed, append(rings, listed...))
	if err == nil && used.ring == nil {
		err = u.refusal
	}
	return used, err
}

// try opens a slot and a ring with it. Without an error and without a ring nothing fits; why is noted in refusal.
func (u *unlocker) try(ctx context.Context, slots, rings []string) (unlocked, error) {
	for _, slot := range slots {
		u.tried[slot] = true
		repositoryKey, err := u.openSlot(ctx, slot)
		if err != nil {
			if err := u.note(err); err != nil {
				return unlocked{}, err
			}
			continue
		}
		for _, name := range rings {
			ring, err := u.ring(ctx, name, repositoryKey)
			if err == nil {
				return unlocked{slot, repositoryKey, name, ring}, nil
			}
			if err := u.note(err); err != nil {
				return unlocked{}, err
			}
		}
	}
	return unlocked{}, nil
}

// note keeps the most telling refusal: what a vault says before a secret that does not fit, that before one that was not given,
// and that before damage. What says nothing about slots, such as a store that cannot be reached, it returns.
func (u *unlocker) note(err error) error {
	rank := func(err error) int {
		var refused *vaultRefusal
		var untried *notGiven
		switch {
		case err == nil:
			return 0
		case errors.As(err, &refused):
			return 4
		case errors.As(err, &untried):
			return 2
		case holdfast.IsKind(err, holdfast.KindWrongKey):
			return 3
		case holdfast.IsKind(err, holdfast.KindCorrupt) || holdfast.IsKind(err, holdfast.KindInvalid):
			return 1
		}
		return -1
	}
	r := rank(err)
	if r < 0 {
		return err
	}
	if r > rank(u.refusal) {
		u.refusal = err
	}
	return nil
}

func (u *unlocker) ring(ctx context.Context, name string, repositoryKey []byte) (*keys.Ring, error) {
	data, err := u.options.Read(ctx, name)
	if err != nil {
		return nil, err
	}
	return keys.DecodeRing(data, u.id, repositoryKey)
}

func (u *unlocker) openSlot(ctx context.Context, name string) ([]byte, error) {
	slot, err := readSlot(ctx, u.options.Read, name, u.id)
	if err != nil {
		return nil, err
	}
	switch {
	case slot.Kind == keys.SlotOpen || slot.Kind == keys.SlotPassword && u.options.Password != "":
		return slot.Open(u.options.Password)
	case slot.Kind == keys.SlotVault && u.options.Password == "" && u.options.Vault != nil:
		return unwrap(ctx, u.options.Vault, slot)
	case slot.Kind == keys.SlotVault && u.options.Password == "":
		return nil, &notGiven{holdfast.Errorf(holdfast.KindWrongKey, "the repository is opened by the vault key %s, and no Azure identity was given", slot.KeyID).
			WithHint("give --azure FILE (or HOLDFAST_AZURE), or a password")}
	case u.options.Password == "":
		return nil, noPassword()
	}
	return nil, holdfast.Errorf(holdfast.KindWrongKey, "the password does not open this repository")
}

// notGiven marks that a slot was not tried.
type notGiven struct{ error }

// Unwrap returns what would have been needed.
func (n *notGiven) Unwrap() error { return n.error }

func noPassword() error {
	return &notGiven{holdfast.Errorf(holdfast.KindWrongKey, "the repository is encrypted and no password was given").
		WithHint("give --password-file FILE, or set HOLDFAST_REPO_PASSWORD")}
}

// put stores a key object under its hash. Its presence is no error: the name proves the content.
func put(ctx context.Context, store blob.Store, encode func() ([]byte, error)) (string, error) {
	data, err := encode()
	if err != nil {
		return "", err
	}
	name := layout.Name(layout.KeyObject, layout.Sum(data))
	if err := store.Put(ctx, name, data, blob.PutOptions{}); err != nil && !errors.Is(err, blob.ErrExists) {
		return "", err
	}
	return name, nil
}

func readSlot(ctx context.Context, read ReadObject, name string, id keys.RepositoryID) (keys.Slot, error) {
	data, err := read(ctx, name)
	if err != nil {
		return keys.Slot{}, err
	}
	return keys.DecodeSlot(data, id)
}

// unwrap lets the vault open a slot.
func unwrap(ctx context.Context, vault Vault, slot keys.Slot) ([]byte, error) {
	wrapped, err := slot.VaultKey()
	if err != nil {
		return nil, err
	}
	key, err := vault.Unwrap(ctx, wrapped)
	if err != nil {
		return nil, &vaultRefusal{err}
	}
	if len(key) != keys.Size {
		return nil, holdfast.Errorf(holdfast.KindWrongKey, "what the vault key %s unwraps is no repository key", slot.KeyID)
	}
	return key, nil
}

// vaultRefusal marks what a vault said, so that it is told before anything else.
type vaultRefusal struct{ error }

// Unwrap returns what the vault said.
func (v *vaultRefusal) Unwrap() error { return v.error }
