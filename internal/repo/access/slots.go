package access

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
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

// Report describes the keys of the state read last. Old slots are looked for by a listing, which may miss some.
func (a *Opened) Report(ctx context.Context) (KeyReport, error) {
	state := a.options.Log.State()
	report := KeyReport{
		Checksum: keyChecksum(a.id, state.KeyRing, state.Slots), Generation: a.Ring.Current(), Generations: a.Ring.Generations(), Slots: []Slot{},
	}
	for _, name := range state.Slots {
		slot, err := a.describeSlot(ctx, name)
		if err != nil {
			return KeyReport{}, err
		}
		slot.Current = true
		report.Slots = append(report.Slots, slot)
	}
	for info, err := range a.options.Store.List(ctx, layout.KeysPrefix) {
		if err != nil {
			return KeyReport{}, err
		}
		if slices.Contains(state.Slots, info.Name) || info.Name == state.KeyRing {
			continue
		}
		data, err := a.options.Read(ctx, info.Name)
		if err != nil && !holdfast.IsKind(err, holdfast.KindCorrupt) {
			return KeyReport{}, err
		}
		if slot, decodeErr := keys.DecodeSlot(data, a.id); err == nil && decodeErr == nil {
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
func (a *Opened) describeSlot(ctx context.Context, name string) (Slot, error) {
	slot, err := readSlot(ctx, a.options.Read, name, a.id)
	if holdfast.IsKind(err, holdfast.KindCorrupt) || holdfast.IsKind(err, holdfast.KindInvalid) {
		return Slot{ID: slotID(name), Problem: err.Error()}, nil
	}
	if err != nil {
		return Slot{}, err
	}
	described := describe(name, slot)
	described.Used = name == a.slot
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
func (a *Opened) LogHead() LogHead {
	state := a.options.Log.State()
	return LogHead{Entry: state.Next - 1, Hash: state.Head}
}

// Birth says what a new repository is opened by.
type Birth struct {
	Unencrypted bool    // the repository key lies in clear; Slot is not looked at
	Slot        NewSlot // Password or VaultKey
	Vault       Vault
	Created     time.Time
}

// WriteFirst stores the slot and the ring that a repository is born with and returns their names. The genesis entry is to name
// them.
func WriteFirst(ctx context.Context, store blob.Store, id keys.RepositoryID, ring *keys.Ring, b Birth) (slotName, ringName string, err error) {
	repositoryKey := keys.Random(keys.Size)
	slot := keys.NewOpenSlot(id, repositoryKey)
	if !b.Unencrypted {
		if slot, err = newSlot(ctx, id, repositoryKey, b.Slot, b.Vault); err != nil {
			return "", "", err
		}
	}
	slot.Created = b.Created.UTC().Truncate(time.Second)
	if slotName, err = put(ctx, store, slot.Encode); err != nil {
		return "", "", err
	}
	ringName, err = put(ctx, store, func() ([]byte, error) { return ring.Encode(repositoryKey) })
	return slotName, ringName, err
}

// Encrypted reports whether no slot that can be read gives the repository key away.
func (a *Opened) Encrypted(ctx context.Context) (bool, error) {
	for _, name := range a.options.Log.State().Slots {
		slot, err := a.describeSlot(ctx, name)
		if err != nil || slot.Kind == string(keys.SlotOpen) {
			return false, err
		}
	}
	return true, nil
}
