// Package keys holds the key hierarchy of a repository: slots that wrap the repository key, the key ring that it opens,
// and the keys derived from the ring. The bytes are specified in doc/format.md §4.
//
// Nothing here touches storage; callers read and write the encoded objects.
package keys

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"hash"
	"maps"
	"sort"
	"strings"
	"sync"

	"github.com/holdfast-backup/holdfast"
)

// Size is the length of every symmetric key, in bytes.
const Size = 32

const nonceSize = 12

// RepositoryID identifies a repository: 16 random bytes.
type RepositoryID [16]byte

// String returns the id in hex.
func (id RepositoryID) String() string { return hex.EncodeToString(id[:]) }

// MarshalText implements encoding.TextMarshaler.
func (id RepositoryID) MarshalText() ([]byte, error) { return []byte(id.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler; the text is 32 lower-case hex digits.
func (id *RepositoryID) UnmarshalText(text []byte) error {
	if hex.DecodedLen(len(text)) != len(id) || strings.ToLower(string(text)) != string(text) {
		return fmt.Errorf("repository id %q: 32 hex digits are wanted", text)
	}
	_, err := hex.Decode(id[:], text)
	return err
}

// NewRepositoryID draws an id.
func NewRepositoryID() RepositoryID { return RepositoryID(Random(16)) }

// Random returns n random bytes. It does not fail: crypto/rand ends the program if the system has no randomness.
func Random(n int) []byte {
	b := make([]byte, n)
	_, _ = rand.Read(b) // never returns an error (crypto/rand, Go 1.24)
	return b
}

// Ring holds what the repository key opens: the identity key and the secret of each generation. It only ever grows: what was
// sealed with one of its generations stays readable. Safe for concurrent use.
type Ring struct {
	repository RepositoryID
	identity   []byte

	mu          sync.Mutex             // guards the fields below
	generations map[uint32][]byte      // secrets
	current     uint32                 // the newest
	derived     map[uint32]derivedKeys // per generation, computed once
}

type derivedKeys struct {
	log   []byte
	entry cipher.AEAD
}

// NewRing draws a ring with one generation, number 1.
func NewRing(repository RepositoryID) *Ring {
	return newRing(repository, Random(Size), map[uint32][]byte{1: Random(Size)})
}

func newRing(repository RepositoryID, identity []byte, generations map[uint32][]byte) *Ring {
	r := &Ring{repository: repository, identity: identity, generations: generations, derived: map[uint32]derivedKeys{}}
	for number := range generations {
		r.current = max(r.current, number)
	}
	return r
}

// Current returns the number of the newest generation, which writers use.
func (r *Ring) Current() uint32 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.current
}

// Generations returns how many generations there are.
func (r *Ring) Generations() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.generations)
}

// Rotated returns a ring with one more generation.
func (r *Ring) Rotated() *Ring {
	r.mu.Lock()
	defer r.mu.Unlock()
	generations := map[uint32][]byte{r.current + 1: Random(Size)}
	maps.Copy(generations, r.generations)
	return newRing(r.repository, r.identity, generations)
}

// Adopt takes over the generations of a newer ring of the same repository, so that everybody who holds r reads and writes
// with them from now on. A ring that lacks one of r's generations, or says another secret of it, is KindCorrupt and changes
// nothing.
func (r *Ring) Adopt(newer *Ring) error {
	generations := newer.secrets()
	r.mu.Lock()
	defer r.mu.Unlock()
	same := newer.repository == r.repository && bytes.Equal(newer.identity, r.identity)
	for number, secret := range r.generations {
		same = same && bytes.Equal(generations[number], secret)
	}
	if !same {
		return holdfast.Errorf(holdfast.KindCorrupt, "the new key ring does not hold what the one before holds").
			WithHint("see what is damaged with: holdfast repo verify")
	}
	r.generations = generations
	for number := range generations {
		r.current = max(r.current, number)
	}
	return nil
}

// secrets returns a copy of the generations.
func (r *Ring) secrets() map[uint32][]byte {
	r.mu.Lock()
	defer r.mu.Unlock()
	return maps.Clone(r.generations)
}

// IdentityKey derives the chunk, node, root or subject key.
func (r *Ring) IdentityKey(use string) []byte {
	return derive(r.identity, r.repository[:], "holdfast "+use+" 1")
}

// ObjectCipher returns the cipher of a sealed object, from the generation and random bytes in its header.
// An unknown generation is KindCorrupt.
func (r *Ring) ObjectCipher(generation uint32, random []byte) (cipher.AEAD, error) {
	r.mu.Lock()
	secret, ok := r.generations[generation]
	r.mu.Unlock()
	if !ok {
		return nil, holdfast.Errorf(holdfast.KindCorrupt, "the key ring has no generation %d", generation)
	}
	return newAEAD(derive(secret, random, "holdfast object 1")), nil
}

// LogMAC returns MAC(log key, line) for a generation. An unknown generation is KindCorrupt.
func (r *Ring) LogMAC(generation uint32, line []byte) ([]byte, error) {
	k, err := r.derivedFor(generation)
	if err != nil {
		return nil, err
	}
	return MAC(k.log, line), nil
}

// SealEntryPart seals the private part of a log entry with the entry's generation. An unknown generation is KindCorrupt.
func (r *Ring) SealEntryPart(generation uint32, plain []byte, context string) ([]byte, error) {
	k, err := r.derivedFor(generation)
	if err != nil {
		return nil, err
	}
	nonce := Random(nonceSize)
	return k.entry.Seal(nonce, nonce, plain, r.entryAD(context)), nil
}

// OpenEntryPart opens what SealEntryPart made. A part that does not authenticate is KindCorrupt.
func (r *Ring) OpenEntryPart(generation uint32, sealed []byte, context string) ([]byte, error) {
	k, err := r.derivedFor(generation)
	if err != nil {
		return nil, err
	}
	if len(sealed) < nonceSize {
		return nil, holdfast.Errorf(holdfast.KindCorrupt, "the sealed part of a log entry is too short")
	}
	plain, err := k.entry.Open(nil, sealed[:nonceSize], sealed[nonceSize:], r.entryAD(context))
	if err != nil {
		return nil, holdfast.Errorf(holdfast.KindCorrupt, "the sealed part of a log entry does not authenticate")
	}
	return plain, nil
}

func (r *Ring) entryAD(context string) []byte {
	return append(append([]byte("holdfast entry 1"), r.repository[:]...), context...)
}

func (r *Ring) derivedFor(generation uint32) (derivedKeys, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if k, ok := r.derived[generation]; ok {
		return k, nil
	}
	secret, ok := r.generations[generation]
	if !ok {
		return derivedKeys{}, holdfast.Errorf(holdfast.KindCorrupt, "the key ring has no generation %d", generation)
	}
	k := derivedKeys{
		log:   derive(secret, r.repository[:], "holdfast log 1"),
		entry: newAEAD(derive(secret, r.repository[:], "holdfast entry 1")),
	}
	r.derived[generation] = k
	return k, nil
}

// ringObject is the stored form of a ring.
type ringObject struct {
	Holdfast   string       `json:"holdfast"`
	Format     int          `json:"format"`
	Repository RepositoryID `json:"repository"`
	Nonce      []byte       `json:"nonce"`
	Sealed     []byte       `json:"sealed"`
}

type ringSecrets struct {
	Identity    []byte             `json:"identity"`
	Generations []generationSecret `json:"generations"`
}

type generationSecret struct {
	Number uint32 `json:"number"`
	Secret []byte `json:"secret"`
}

const (
	ringLabel = "key ring"
	slotLabel = "key slot"
)

// Encode seals the ring under the repository key and returns the bytes of the object.
func (r *Ring) Encode(repositoryKey []byte) ([]byte, error) {
	secrets := ringSecrets{Identity: r.identity}
	for number, secret := range r.secrets() {
		secrets.Generations = append(secrets.Generations, generationSecret{number, secret})
	}
	sort.Slice(secrets.Generations, func(i, j int) bool { return secrets.Generations[i].Number < secrets.Generations[j].Number })
	plain, err := json.Marshal(secrets)
	if err != nil {
		return nil, err
	}
	nonce := Random(nonceSize)
	return json.Marshal(ringObject{
		Holdfast: ringLabel, Format: 1, Repository: r.repository, Nonce: nonce,
		Sealed: newAEAD(repositoryKey).Seal(nil, nonce, plain, ringAD(r.repository)),
	})
}

// DecodeRing opens a ring with the repository key. Bytes that are no ring are KindCorrupt; a ring that another key sealed
// is KindWrongKey.
func DecodeRing(data []byte, repository RepositoryID, repositoryKey []byte) (*Ring, error) {
	var object ringObject
	if err := json.Unmarshal(data, &object); err != nil || object.Holdfast != ringLabel || len(object.Nonce) != nonceSize {
		return nil, holdfast.Errorf(holdfast.KindCorrupt, "the key ring is not readable")
	}
	if object.Format != 1 {
		return nil, newer("key ring", object.Format)
	}
	plain, err := newAEAD(repositoryKey).Open(nil, object.Nonce, object.Sealed, ringAD(repository))
	if err != nil {
		return nil, holdfast.Errorf(holdfast.KindWrongKey, "the repository key does not open the key ring")
	}
	var secrets ringSecrets
	if err := json.Unmarshal(plain, &secrets); err != nil || len(secrets.Identity) != Size || len(secrets.Generations) == 0 {
		return nil, holdfast.Errorf(holdfast.KindCorrupt, "the key ring's content is not readable")
	}
	generations := map[uint32][]byte{}
	for _, g := range secrets.Generations {
		if len(g.Secret) != Size || g.Number == 0 {
			return nil, holdfast.Errorf(holdfast.KindCorrupt, "the key ring's generation %d is malformed", g.Number)
		}
		generations[g.Number] = g.Secret
	}
	return newRing(repository, secrets.Identity, generations), nil
}

func ringAD(repository RepositoryID) []byte {
	return append([]byte("holdfast key ring 1"), repository[:]...)
}

// MAC returns HMAC-SHA-256(key, data).
func MAC(key, data []byte) []byte {
	m := hmac.New(sha256.New, key)
	m.Write(data)
	return m.Sum(nil)
}

func derive(secret, salt []byte, info string) []byte {
	key, err := hkdf.Key(func() hash.Hash { return sha256.New() }, secret, salt, info, Size)
	holdfast.Invariant(err == nil, "HKDF of 32 bytes cannot fail: %v", err)
	return key
}

func newAEAD(key []byte) cipher.AEAD {
	block, err := aes.NewCipher(key)
	holdfast.Invariant(err == nil, "a 32-byte key fits AES-256: %v", err)
	aead, err := cipher.NewGCM(block)
	holdfast.Invariant(err == nil, "GCM over AES cannot fail: %v", err)
	return aead
}
