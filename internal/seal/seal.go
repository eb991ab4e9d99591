// Package seal keeps secrets that lie in the database: AES-256-GCM under keys from a file beside it, so that a copy of the
// database alone gives none of them away.
//
// What is sealed names its key and belongs to its row: moved to another row, or changed by a bit, it does not open, and the
// error says which of the two it was. Old keys stay in the file until everything was sealed anew (Reseal) and they are dropped.
// It must never make a key where sealed rows may exist already (Create is for an empty database), write a key anywhere but into
// its file, use a file that others can read, or put a secret into an error.
//
// Sealed bytes: "hfs1", key id (8), row tag (16), nonce (12), ciphertext and tag (16). All before the nonce is additional data. The
// row tag is a MAC of the row's name under a key derived from the named one: it binds like the name itself, and can be compared
// after the rest was authenticated.
package seal

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"

	"github.com/holdfast-backup/holdfast"
)

const (
	keySize   = 32
	nonceSize = 12
	rowSize   = 16
	headSize  = len(magic) + len(KeyID{}) + rowSize
	overhead  = headSize + nonceSize + 16
	magic     = "hfs1"

	// plainMax bounds a secret: passwords, tokens and private keys are far smaller, and a row is no place for more.
	plainMax = 64 << 10
)

// KeyID names a key. It is derived from the key and tells nothing of it.
type KeyID [8]byte

// String returns the id in hex.
func (id KeyID) String() string { return hex.EncodeToString(id[:]) }

// ParseKeyID reads what String writes.
func ParseKeyID(text string) (KeyID, error) {
	var id KeyID
	raw, err := hex.DecodeString(text)
	if err != nil || len(raw) != len(id) {
		return id, holdfast.Errorf(holdfast.KindInvalid, "%.40q is not the id of a sealing key", text).WithHint("16 hex digits are wanted")
	}
	return KeyID(raw), nil
}

// Keys seal and open. They never change: a file that has new keys is read again. Safe for concurrent use.
type Keys struct {
	keys []key // the first one seals; the others open what was sealed before
}

type key struct {
	id     KeyID
	secret [keySize]byte
	rows   []byte // MAC key of row names
	aead   cipher.AEAD
}

func newKey(secret [keySize]byte) key {
	block, err := aes.NewCipher(derive(secret, "holdfast sealed row 1"))
	holdfast.Invariant(err == nil, "a key of %d bytes makes no cipher", keySize)
	aead, err := cipher.NewGCM(block)
	holdfast.Invariant(err == nil, "AES makes no GCM")
	k := key{secret: secret, aead: aead, rows: derive(secret, "holdfast row name 1")}
	copy(k.id[:], derive(secret, "holdfast seal key id 1"))
	return k
}

func drawKey() key {
	var secret [keySize]byte
	_, _ = rand.Read(secret[:]) // never returns an error (crypto/rand, Go 1.24)
	return newKey(secret)
}

func derive(secret [keySize]byte, use string) []byte {
	derived, err := hkdf.Key(sha256.New, secret[:], nil, use, keySize)
	holdfast.Invariant(err == nil, "HKDF gives no %d bytes", keySize)
	return derived
}

// Current is the id of the key that seals.
func (k *Keys) Current() KeyID { return k.keys[0].id }

// IDs are the ids of all keys, the current one first.
func (k *Keys) IDs() []KeyID {
	var ids []KeyID
	for _, one := range k.keys {
		ids = append(ids, one.id)
	}
	return ids
}

// Seal seals a secret for a row. The row's name is whatever names it for ever: table, id and column.
func (k *Keys) Seal(row string, secret []byte) ([]byte, error) {
	if len(secret) > plainMax {
		return nil, holdfast.Errorf(holdfast.KindInvalid, "the secret for %s has %d bytes", row, len(secret)).WithHint("at most %d are kept", plainMax)
	}
	current := k.keys[0]
	sealed := make([]byte, 0, overhead+len(secret))
	sealed = append(sealed, magic...)
	sealed = append(sealed, current.id[:]...)
	sealed = append(sealed, current.tag(row)...)
	nonce := make([]byte, nonceSize)
	_, _ = rand.Read(nonce) // never returns an error (crypto/rand, Go 1.24)
	sealed = append(sealed, nonce...)
	return current.aead.Seal(sealed, nonce, secret, sealed[:headSize]), nil
}

// Open returns the secret of a row. The error is KindWrongKey when the file has not got its key, and KindCorrupt when the
// bytes are damaged or belong to another row.
func (k *Keys) Open(row string, sealed []byte) ([]byte, error) {
	id, err := KeyOf(sealed)
	if err != nil {
		return nil, holdfast.Wrap(holdfast.KindCorrupt, err, "the secret of %s is damaged", row).WithHint(hintDamage)
	}
	at := slices.IndexFunc(k.keys, func(one key) bool { return one.id == id })
	if at < 0 {
		return nil, holdfast.Errorf(holdfast.KindWrongKey, "the secret of %s was sealed with the key %s, which the key file has not got", row, id).
			WithHint("put back the key file that belongs to this database, or set the secret again; the file has %s", list(k.IDs()))
	}
	head, nonce, rest := sealed[:headSize], sealed[headSize:headSize+nonceSize], sealed[headSize+nonceSize:]
	secret, err := k.keys[at].aead.Open(nil, nonce, rest, head)
	if err != nil {
		return nil, holdfast.Errorf(holdfast.KindCorrupt, "the secret of %s is damaged: it does not authenticate", row).WithHint(hintDamage)
	}
	if !hmac.Equal(head[headSize-rowSize:], k.keys[at].tag(row)) {
		return nil, holdfast.Errorf(holdfast.KindCorrupt, "what is stored as the secret of %s was sealed for another row", row).
			WithHint("somebody moved it in the database; set the secret again")
	}
	return secret, nil
}

const hintDamage = "set the secret again, or restore the database"

// KeyOf returns the id of the key that a secret was sealed with, without opening it.
func KeyOf(sealed []byte) (KeyID, error) {
	if len(sealed) < overhead || !bytes.HasPrefix(sealed, []byte(magic)) {
		return KeyID{}, holdfast.Errorf(holdfast.KindCorrupt, "these %d bytes are no sealed secret", len(sealed))
	}
	return KeyID(sealed[len(magic):]), nil
}

// Reseal returns what a row holds, sealed with the current key, and whether that is something new. What is sealed with it
// already is opened all the same, so that a pass over all rows finds what is damaged.
func (k *Keys) Reseal(row string, sealed []byte) (again []byte, changed bool, err error) {
	secret, err := k.Open(row, sealed)
	if err != nil {
		return nil, false, err
	}
	if id, _ := KeyOf(sealed); id == k.Current() {
		return sealed, false, nil
	}
	again, err = k.Seal(row, secret)
	return again, err == nil, err
}

func (k key) tag(row string) []byte {
	mac := hmac.New(sha256.New, k.rows)
	mac.Write([]byte(row))
	return mac.Sum(nil)[:rowSize]
}

func list(ids []KeyID) string {
	var b bytes.Buffer
	for i, id := range ids {
		if i > 0 {
			b.WriteString(", ")
		}
		fmt.Fprint(&b, id)
	}
	return b.String()
}
