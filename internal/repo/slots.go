package repo

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/blob"
	"github.com/holdfast-backup/holdfast/internal/repo/keys"
	"github.com/holdfast-backup/holdfast/internal/repo/layout"
)

// Slot describes a key slot.
type Slot struct {
	ID           string    `json:"id"`   // the hash in its object's name, 64 hex digits
	Kind         string    `json:"kind"` // password, vault or open
	Label        string    `json:"label"`
	Since        time.Time `json:"since,omitzero"` // when it was made, where it says so
	VaultKey     string    `json:"vaultKey"`       // with its version
	RecoveryCode bool      `json:"recoveryCode"`
	Current      bool      `json:"current"`           // false: an old one whose object still lies in the store
	Used         bool      `json:"used"`              // it opened this handle
	Problem      string    `json:"problem,omitempty"` // why it cannot be used
}

// KeyReport describes the keys of a repository.
type KeyReport struct {
	Checksum    string `json:"checksum"`    // of repository, ring and slots: changes with every key change, tells nothing of the keys
	Generation  uint32 `json:"generation"`  // that new objects are sealed with
	Generations int    `json:"generations"` // in the ring
	Slots       []Slot `json:"slots"`       // current ones in order, then old ones that the store still lists
}

// Keys describes the keys of the state read last. Old slots are looked for by a listing, which may miss some.
func (r *Repository) Keys(ctx context.Context) (KeyReport, error) {
	state := r.oplog.State()
	report := KeyReport{
		Checksum: keyChecksum(r.id, state.KeyRing, state.Slots), Generation: r.ring.Current(), Generations: r.ring.Generations(), Slots: []Slot{},
	}
	for _, name := range state.Slots {
		slot, err := r.describeSlot(ctx, name)
		if err != nil {
			return KeyReport{}, err
		}
		slot.Current = true
		report.Slots = append(report.Slots, slot)
	}
	for info, err := range r.store.List(ctx, layout.KeysPrefix) {
		if err != nil {
			return KeyReport{}, err
		}
		if slices.Contains(state.Slots, info.Name) || info.Name == state.KeyRing {
			continue
		}
		data, err := readNamed(ctx, r.store, info.Name, layout.KeyObjectBytesMax)
		if err != nil && !isDamage(err) {
			return KeyReport{}, err
		}
		if slot, decodeErr := keys.DecodeSlot(data, r.id); err == nil && decodeErr == nil {
			report.Slots = append(report.Slots, describe(info.Name, slot))
		}
	}
	return report, nil
}

// keyChecksum stands for a state of the keys, in eight groups of four hex digits.
func keyChecksum(id keys.RepositoryID, keyRing string, slots []string) string {
	slots = slices.Sorted(slices.Values(slots))
	sum := sha256.Sum256(fmt.Appendf(nil, "holdfast keys 1\n%s\n%s\n%s\n", id, keyRing, strings.Join(slots, "\n")))
	digits := hex.EncodeToString(sum[:16])
	var groups []string
	for group := range slices.Chunk([]byte(digits), 4) {
		groups = append(groups, string(group))
	}
	return strings.Join(groups, " ")
}

// describeSlot describes a slot that the log names; one that is damaged or missing says so.
func (r *Repository) describeSlot(ctx context.Context, name string) (Slot, error) {
	slot, err := readSlot(ctx, r.store, name, r.id)
	if isDamage(err) || holdfast.IsKind(err, holdfast.KindInvalid) {
		return Slot{ID: slotID(name), Problem: err.Error()}, nil
	}
	if err != nil {
		return Slot{}, err
	}
	described := describe(name, slot)
	described.Used = name == r.slot
	return described, nil
}

func describe(name string, slot keys.Slot) Slot {
	return Slot{
		ID: slotID(name), Kind: string(slot.Kind), Label: slot.Label, Since: slot.Created, VaultKey: slot.KeyID, RecoveryCode: slot.RecoveryCode,
	}
}

func slotID(name string) string { return strings.TrimPrefix(name, layout.KeysPrefix) }

// object returns the name of the slot's object.
func (s Slot) object() string { return layout.KeysPrefix + s.ID }

// LogHead is the newest entry of a log: who remembers it sees whether entries were taken away since.
type LogHead struct {
	Entry uint64 `json:"entry"` // its number
	Hash  string `json:"hash"`  // of its stored bytes, in hex
}

// LogHead returns the newest entry of the state read last.
func (r *Repository) LogHead() LogHead {
	state := r.oplog.State()
	return LogHead{Entry: state.Next - 1, Hash: state.Head}
}

// firstSlot stores the slot that a repository is born with.
func firstSlot(ctx context.Context, store blob.Store, id keys.RepositoryID, repositoryKey []byte, o InitOptions) (string, error) {
	slot := keys.NewOpenSlot(id, repositoryKey)
	if !o.Unencrypted {
		var err error
		slot, err = newSlot(ctx, id, repositoryKey, NewSlot{Label: o.Label, Password: o.Password, VaultKey: o.VaultKey, KDF: o.KDF}, o.Vault)
		if err != nil {
			return "", err
		}
	}
	slot.Created = o.Clock.Now().UTC().Truncate(time.Second)
	name, err := putKeyObject(ctx, store, slot.Encode)
	if errors.Is(err, blob.ErrExists) {
		return name, nil
	}
	return name, err
}
