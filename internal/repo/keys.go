package repo

import (
	"context"

	"github.com/holdfast-backup/holdfast/internal/repo/access"
)

// Vault wraps and unwraps repository keys with keys that never leave it.
type Vault = access.Vault

// WrappedKey is a repository key as a vault wrapped it.
type WrappedKey = access.WrappedKey

// Slot describes a key slot.
type Slot = access.Slot

// NewSlot says what is to open the repository.
type NewSlot = access.NewSlot

// KeyReport describes the keys of a repository.
type KeyReport = access.KeyReport

// KeyChange is what a change of keys did.
type KeyChange = access.KeyChange

// RotateOptions tell how far a rotation goes.
type RotateOptions = access.RotateOptions

// Ownership says whom the repository belongs to.
type Ownership = access.Ownership

// LogHead is the newest entry of a log.
type LogHead = access.LogHead

// Keys describes the keys of the state read last. Old slots are looked for by a listing, which may miss some.
func (r *Repository) Keys(ctx context.Context) (KeyReport, error) { return r.access.Report(ctx) }

// AddSlot adds a slot, or puts it into the place of another.
func (r *Repository) AddSlot(ctx context.Context, slot NewSlot) (KeyChange, error) {
	return r.access.AddSlot(ctx, slot)
}

// RemoveSlot ends a slot, named by its label or the beginning of its id. The last one stays: KindRefused.
func (r *Repository) RemoveSlot(ctx context.Context, slot string) (KeyChange, error) {
	return r.access.RemoveSlot(ctx, slot)
}

// Rotate starts a new generation of the keys, and with Revoke replaces the repository key.
func (r *Repository) Rotate(ctx context.Context, o RotateOptions) (KeyChange, error) {
	return r.access.Rotate(ctx, o)
}

// Ownership returns whom the repository belongs to in the state read last.
func (r *Repository) Ownership() Ownership { return r.access.Ownership() }

// TakeOver makes the installation that this handle belongs to the owner; from is the owner that the caller knows.
func (r *Repository) TakeOver(ctx context.Context, from string) (Ownership, error) {
	return r.access.TakeOver(ctx, from)
}

// CheckInstallation returns a KindInvalid error for an id that no installation can have.
func CheckInstallation(id string) error { return access.CheckInstallation(id) }

// LogHead returns the newest entry of the state read last.
func (r *Repository) LogHead() LogHead { return r.access.LogHead() }
