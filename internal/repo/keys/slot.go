package keys

import (
	"encoding/json"
	"runtime"
	"time"

	"golang.org/x/crypto/argon2"

	"github.com/holdfast-backup/holdfast"
)

// KDFCost is the cost of turning a password into a key (Argon2id, RFC 9106).
type KDFCost struct {
	Time      uint32 // passes
	MemoryKiB uint32
	Threads   uint8
}

// DefaultKDFCost follows the second recommendation of RFC 9106 §4: 64 MiB, three passes, four lanes.
func DefaultKDFCost() KDFCost { return KDFCost{Time: 3, MemoryKiB: 64 << 10, Threads: 4} }

// Bounds on the cost a reader accepts before it computes (doc/format.md §4).
const (
	kdfTimeMax      = 64
	kdfMemoryKiBMax = 1 << 20
	kdfThreadsMax   = 64
)

// Validate returns a KindInvalid error for a cost that readers would refuse. The zero value means the default.
func (c KDFCost) Validate() error {
	if c != (KDFCost{}) && !c.bounded() {
		return holdfast.Errorf(holdfast.KindInvalid, "the cost of the key derivation (%d passes, %d KiB, %d threads) is out of bounds", c.Time, c.MemoryKiB, c.Threads).
			WithHint("at most %d passes, %d KiB and %d threads", kdfTimeMax, kdfMemoryKiBMax, kdfThreadsMax)
	}
	return nil
}

func (c KDFCost) bounded() bool {
	return c.Time > 0 && c.Time <= kdfTimeMax && c.MemoryKiB > 0 && c.MemoryKiB <= kdfMemoryKiBMax && c.Threads > 0 && c.Threads <= kdfThreadsMax
}

// SlotKind says what opens a slot.
type SlotKind string

// The kinds of slot. A vault slot is opened by a Key Vault key.
const (
	SlotPassword SlotKind = "password"
	SlotVault    SlotKind = "vault"
	SlotOpen     SlotKind = "open" // the key lies in clear: a repository without encryption
)

// Slot wraps the repository key.
type Slot struct {
	Holdfast   string       `json:"holdfast"`
	Format     int          `json:"format"`
	Repository RepositoryID `json:"repository"`
	Kind       SlotKind     `json:"kind"`
	Label      string       `json:"label,omitempty"`  // for people
	Created    time.Time    `json:"created,omitzero"` // for people

	// RecoveryCode says that the password is a code that NewRecoveryCode drew.
	RecoveryCode bool   `json:"recoveryCode,omitempty"`
	KDF          string `json:"kdf,omitempty"`
	Time         uint32 `json:"time,omitempty"`
	MemoryKiB    uint32 `json:"memoryKiB,omitempty"`
	Threads      uint8  `json:"threads,omitempty"`
	Salt         []byte `json:"salt,omitempty"`
	Nonce        []byte `json:"nonce,omitempty"`
	Wrapped      []byte `json:"wrapped,omitempty"`

	KeyID     string `json:"keyId,omitempty"`
	Algorithm string `json:"algorithm,omitempty"`

	Key []byte `json:"key,omitempty"`
}

const kdfArgon2id = "argon2id"

// NewPasswordSlot wraps the repository key with a password.
func NewPasswordSlot(repository RepositoryID, repositoryKey []byte, password string, cost KDFCost) Slot {
	if cost == (KDFCost{}) {
		cost = DefaultKDFCost()
	}
	s := Slot{
		Holdfast: slotLabel, Format: 1, Repository: repository, Kind: SlotPassword,
		KDF: kdfArgon2id, Time: cost.Time, MemoryKiB: cost.MemoryKiB, Threads: cost.Threads,
		Salt: Random(16), Nonce: Random(nonceSize),
	}
	s.Wrapped = newAEAD(s.passwordKey(password)).Seal(nil, s.Nonce, repositoryKey, slotAD(repository))
	return s
}

// Wrapped is a repository key as a vault wrapped it.
type Wrapped struct {
	KeyID     string // of the vault's key, with its version: https://VAULT/keys/NAME/VERSION
	Algorithm string // AlgorithmRSAOAEP256
	Bytes     []byte
}

// AlgorithmRSAOAEP256 is how vaults wrap: RSA-OAEP with SHA-256 (RFC 8017 §7.1; the name is that of RFC 7518 and Key Vault).
const AlgorithmRSAOAEP256 = "RSA-OAEP-256"

// NewVaultSlot keeps the repository key as a vault wrapped it.
func NewVaultSlot(repository RepositoryID, w Wrapped) Slot {
	return Slot{Holdfast: slotLabel, Format: 1, Repository: repository, Kind: SlotVault, KeyID: w.KeyID, Algorithm: w.Algorithm, Wrapped: w.Bytes}
}

// VaultKey returns what a vault is to unwrap. A slot of another kind, or with an algorithm that is not known, is KindCorrupt.
func (s Slot) VaultKey() (Wrapped, error) {
	if s.Kind != SlotVault || s.Algorithm != AlgorithmRSAOAEP256 || s.KeyID == "" || len(s.Wrapped) == 0 {
		return Wrapped{}, holdfast.Errorf(holdfast.KindCorrupt, "a key slot of kind %q asks for the algorithm %q of the vault key %q", s.Kind, s.Algorithm, s.KeyID)
	}
	return Wrapped{KeyID: s.KeyID, Algorithm: s.Algorithm, Bytes: s.Wrapped}, nil
}

// NewOpenSlot keeps the repository key in clear.
func NewOpenSlot(repository RepositoryID, repositoryKey []byte) Slot {
	return Slot{Holdfast: slotLabel, Format: 1, Repository: repository, Kind: SlotOpen, Key: repositoryKey}
}

// Encode returns the bytes of the slot's object.
func (s Slot) Encode() ([]byte, error) { return json.Marshal(s) }

// DecodeSlot reads a slot. Bytes that are no slot of this repository are KindCorrupt.
func DecodeSlot(data []byte, repository RepositoryID) (Slot, error) {
	var s Slot
	if err := json.Unmarshal(data, &s); err != nil || s.Holdfast != slotLabel || s.Repository != repository {
		return Slot{}, holdfast.Errorf(holdfast.KindCorrupt, "a key slot is not readable")
	}
	if s.Format != 1 {
		return Slot{}, newer("key slot", s.Format)
	}
	return s, nil
}

// Open unwraps the repository key: with the password for a password slot, without for an open one. A password that does
// not fit is KindWrongKey.
func (s Slot) Open(password string) ([]byte, error) {
	switch s.Kind {
	case SlotOpen:
		if len(s.Key) != Size {
			return nil, holdfast.Errorf(holdfast.KindCorrupt, "the open key slot holds no key")
		}
		return s.Key, nil
	case SlotPassword:
		return s.openWithPassword(password)
	case SlotVault:
	}
	return nil, holdfast.Errorf(holdfast.KindWrongKey, "a key slot of kind %q cannot be opened with a password", s.Kind)
}

func (s Slot) openWithPassword(password string) ([]byte, error) {
	if cost := (KDFCost{s.Time, s.MemoryKiB, s.Threads}); s.KDF != kdfArgon2id || !cost.bounded() || len(s.Nonce) != nonceSize {
		return nil, holdfast.Errorf(holdfast.KindCorrupt, "a key slot asks for a key derivation out of bounds")
	}
	if s.RecoveryCode {
		password = canonicalCode(password)
	}
	key, err := newAEAD(s.passwordKey(password)).Open(nil, s.Nonce, s.Wrapped, slotAD(s.Repository))
	if err != nil || len(key) != Size {
		return nil, holdfast.Errorf(holdfast.KindWrongKey, "the password does not open this repository")
	}
	return key, nil
}

func newer(what string, format int) error {
	return holdfast.Errorf(holdfast.KindInvalid, "a %s has the format %d, which this version of Holdfast does not know", what, format).
		WithHint("open the repository with a newer version")
}

func (s Slot) passwordKey(password string) []byte {
	key := argon2.IDKey([]byte(password), s.Salt, s.Time, s.MemoryKiB, s.Threads, Size)
	if s.MemoryKiB >= worthCollectingKiB {
		runtime.GC() // its memory is garbage now, and more than a small backup takes otherwise: let it be used again
	}
	return key
}

// worthCollectingKiB is the least memory of a key derivation that makes a garbage collection worth its time.
const worthCollectingKiB = 8 << 10

func slotAD(repository RepositoryID) []byte {
	return append([]byte("holdfast slot 1"), repository[:]...)
}
