package main

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"golang.org/x/crypto/argon2"
)

// What a slot may ask of this machine (§4), and how many slots are tried: a hostile folder may hold any number.
const (
	slotMemoryMax  = 1 << 20 // KiB
	slotTimeMax    = 64
	slotThreadsMax = 64
	slotsMax       = 64
)

// secret is what the user has to open the repository with; all of it may be empty.
type secret struct {
	password      string
	repositoryKey []byte // what a vault returns when it unwraps a slot
	dropped       bool   // a key that is not current any more will do
}

// slot is the wrapped repository key (§4).
type slot struct {
	Holdfast   string `json:"holdfast"`
	Format     int    `json:"format"`
	Repository string `json:"repository"`
	Kind       string `json:"kind"`
	KDF        string `json:"kdf"`
	Time       uint32 `json:"time"`
	MemoryKiB  uint32 `json:"memoryKiB"`
	Threads    uint32 `json:"threads"`
	Salt       []byte `json:"salt"`
	Nonce      []byte `json:"nonce"`
	Wrapped    []byte `json:"wrapped"`
	Key        []byte `json:"key"`   // of an open slot
	KeyID      string `json:"keyId"` // of a vault slot
	Algorithm  string `json:"algorithm"`

	RecoveryCode bool `json:"recoveryCode"` // the password is a code that people type
}

// ringFile is a sealed key ring, ringContent what is in it.
type (
	ringFile struct {
		Holdfast   string `json:"holdfast"`
		Format     int    `json:"format"`
		Repository string `json:"repository"`
		Nonce      []byte `json:"nonce"`
		Sealed     []byte `json:"sealed"`
	}
	ringContent struct {
		Identity    []byte `json:"identity"`
		Generations []struct {
			Number uint32 `json:"number"`
			Secret []byte `json:"secret"`
		} `json:"generations"`
	}
)

// keys are all keys of a repository.
type keys struct {
	repository  []byte // the repository's id, 16 bytes
	chunk       []byte
	node        []byte
	root        []byte
	identity    []byte
	generations map[uint32][]byte
	slot        string   // that was opened; empty when the repository key itself was given
	rings       []string // that opened
}

// seal is AES-256-GCM under a key of 32 bytes.
func seal(key []byte) (cipher.AEAD, error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(block)
}

// unseal opens nonce and ciphertext; a wrong length of the nonce is an error like any other.
func unseal(key, nonce, sealed, associated []byte) ([]byte, error) {
	aead, err := seal(key)
	if err != nil {
		return nil, err
	}
	if len(nonce) != aead.NonceSize() {
		return nil, damaged("a nonce has %d bytes, want %d", len(nonce), aead.NonceSize())
	}
	return aead.Open(nil, nonce, sealed, associated)
}

// derive is KDF of the page: HKDF-SHA-256 to 32 bytes.
func derive(secret, salt []byte, info string) ([]byte, error) {
	return hkdf.Key(sha256.New, secret, salt, info, 32)
}

// mac is HMAC-SHA-256 over the parts, one after the other.
func mac(key []byte, parts ...[]byte) [32]byte {
	h := hmac.New(sha256.New, key)
	for _, part := range parts {
		h.Write(part)
	}
	var sum [32]byte
	h.Sum(sum[:0])
	return sum
}

// parseSlot reads a slot and refuses what would be absurd work, before any work is done.
func parseSlot(content []byte) (slot, error) {
	var s slot
	if err := json.Unmarshal(content, &s); err != nil || s.Holdfast != "key slot" {
		return slot{}, damaged("it is no key slot")
	}
	if s.Format != 1 {
		return slot{}, newer("a key slot has format %d", s.Format)
	}
	if s.Kind == "password" {
		switch {
		case s.KDF != "argon2id":
			return slot{}, newer("a key slot uses %q to derive keys", s.KDF)
		case s.MemoryKiB > slotMemoryMax || s.Time > slotTimeMax || s.Threads > slotThreadsMax:
			return slot{}, damaged("a key slot asks for %d KiB of memory, %d rounds and %d threads", s.MemoryKiB, s.Time, s.Threads)
		case s.Time < 1 || s.Threads < 1 || s.MemoryKiB < 8*s.Threads:
			return slot{}, damaged("a key slot asks for less than Argon2id can do")
		}
	}
	return s, nil
}

// open returns the repository key that a slot wraps. It fails with kind wrongKey when the secret does not fit.
func (s slot) open(with secret) ([]byte, error) {
	id, err := hex.DecodeString(s.Repository)
	if err != nil || len(id) != 16 {
		return nil, damaged("a key slot names the repository %q", s.Repository)
	}
	switch s.Kind {
	case "open":
		if len(s.Key) != 32 {
			return nil, damaged("an open key slot has a key of %d bytes, want 32", len(s.Key))
		}
		return s.Key, nil
	case "password":
		password := with.password
		if s.RecoveryCode {
			password = recoveryCode(password)
		}
		derived := argon2.IDKey([]byte(password), s.Salt, s.Time, s.MemoryKiB, uint8(s.Threads), 32) // threads are at most 64
		key, err := unseal(derived, s.Nonce, s.Wrapped, bound("holdfast slot 1", id))
		if err != nil || len(key) != 32 {
			return nil, failed(kindWrongKey, "the password does not open the repository")
		}
		return key, nil
	default:
		return nil, failed(kindWrongKey, "a key slot of kind %q cannot be opened here", s.Kind)
	}
}

// recoveryCode brings a code that somebody typed into the form of §4: 32 digits in groups of four. Anything else is returned
// as it is.
func recoveryCode(typed string) string {
	digits := strings.NewReplacer("-", "", " ", "", "O", "0", "I", "1", "L", "1").Replace(strings.ToUpper(typed))
	if len(digits) != 32 {
		return typed
	}
	groups := make([]string, 0, 8)
	for group := range slices.Chunk([]byte(digits), 4) {
		groups = append(groups, string(group))
	}
	return strings.Join(groups, "-")
}

// bound is associated data: a word and the repository's id, its 16 bytes.
func bound(word string, id []byte) []byte { return append([]byte(word), id...) }

// openRing opens a key ring. The id of the repository is the ring's own: the seal binds it.
func openRing(content, repositoryKey []byte) (*keys, error) {
	var file ringFile
	if err := json.Unmarshal(content, &file); err != nil || file.Holdfast != "key ring" {
		return nil, damaged("it is no key ring")
	}
	if file.Format != 1 {
		return nil, newer("a key ring has format %d", file.Format)
	}
	id, err := hex.DecodeString(file.Repository)
	if err != nil || len(id) != 16 {
		return nil, damaged("a key ring names the repository %q", file.Repository)
	}
	text, err := unseal(repositoryKey, file.Nonce, file.Sealed, bound("holdfast key ring 1", id))
	if err != nil {
		return nil, failed(kindWrongKey, "the repository key does not open the key ring")
	}
	var ring ringContent
	if err := json.Unmarshal(text, &ring); err != nil || len(ring.Identity) != 32 || len(ring.Generations) == 0 {
		return nil, damaged("a key ring does not hold an identity and generations")
	}
	k := &keys{repository: id, identity: ring.Identity, generations: make(map[uint32][]byte)}
	for _, generation := range ring.Generations {
		k.generations[generation.Number] = generation.Secret
	}
	for info, target := range map[string]*[]byte{"holdfast chunk 1": &k.chunk, "holdfast node 1": &k.node, "holdfast root 1": &k.root} {
		if *target, err = derive(ring.Identity, id, info); err != nil {
			return nil, err
		}
	}
	return k, nil
}

// join adds the generations of another ring of the same repository.
func (k *keys) join(other *keys) {
	if k.repositoryID() != other.repositoryID() || !bytes.Equal(k.identity, other.identity) {
		return
	}
	for number, secret := range other.generations {
		if _, known := k.generations[number]; !known {
			k.generations[number] = secret
		}
	}
}

// repositoryID is the id as log entries and lists write it.
func (k *keys) repositoryID() string { return hex.EncodeToString(k.repository) }

// ofGeneration derives a key from a generation's secret. It fails with kind wrongKey when the rings that are open lack it.
func (k *keys) ofGeneration(number uint32, salt []byte, info string) ([]byte, error) {
	generation, known := k.generations[number]
	if !known {
		return nil, failed(kindWrongKey, "generation %d of the keys is not in the key ring that was opened", number).
			hinting("the newest password opens the newest key ring")
	}
	return derive(generation, salt, info)
}

// chunkID, nodeID and rootOf are the ids of §4 and §7.
func (k *keys) chunkID(content []byte) [32]byte { return mac(k.chunk, content) }

func (k *keys) nodeID(level byte, bitmap, ids []byte) [32]byte {
	return mac(k.node, []byte{level}, bitmap, ids)
}

func (k *keys) rootOf(size int64, p parameters, top [32]byte) [32]byte {
	head := binary.BigEndian.AppendUint64(nil, uint64(size))
	head = binary.BigEndian.AppendUint32(head, uint32(p.ChunkSize))
	head = binary.BigEndian.AppendUint32(head, uint32(p.FanOut))
	return mac(k.root, head, top[:])
}

// parseRepositoryKey reads the key that a vault unwrapped: 32 raw bytes, or their hex or base64 in one line.
func parseRepositoryKey(content []byte) ([]byte, error) {
	if len(content) == 32 {
		return content, nil
	}
	text := string(bytes.TrimSpace(content))
	for _, decode := range []func(string) ([]byte, error){
		hex.DecodeString, base64.StdEncoding.DecodeString, base64.RawStdEncoding.DecodeString,
		base64.URLEncoding.DecodeString, base64.RawURLEncoding.DecodeString,
	} {
		if key, err := decode(text); err == nil && len(key) == 32 {
			return key, nil
		}
	}
	return nil, failed(kindInvalid, "the repository key is not 32 bytes, nor their hex or base64").about("repository-key-file")
}

// describe says how a slot is opened, for the person who could not.
func (s slot) describe(name string) string {
	switch s.Kind {
	case "vault":
		return fmt.Sprintf("%s wants the vault key %s: unwrap its field \"wrapped\" with %s and give the result as --repository-key-file", name, s.KeyID, s.Algorithm)
	case "password":
		return name + " wants a password"
	default:
		return fmt.Sprintf("%s is of kind %q", name, s.Kind)
	}
}
