package keys_test

import (
	"bytes"
	"encoding/json"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/repo/keys"
)

func fast() keys.KDFCost { return keys.KDFCost{Time: 1, MemoryKiB: 8, Threads: 1} }

// reload stores a slot and reads it back.
func reload(t *testing.T, s keys.Slot) keys.Slot {
	t.Helper()
	data, err := s.Encode()
	if err != nil {
		t.Fatal(err)
	}
	got, err := keys.DecodeSlot(data, s.Repository)
	if err != nil {
		t.Fatal(err)
	}
	return got
}

// The password opens its slot and no other password does; two slots of one password have nothing in common; an open slot needs none.
func TestSlot_Open(t *testing.T) {
	id, key := keys.NewRepositoryID(), keys.Random(keys.Size)
	a, b := keys.NewPasswordSlot(id, key, "right", fast()), keys.NewPasswordSlot(id, key, "right", fast())
	if bytes.Equal(a.Wrapped, b.Wrapped) || bytes.Equal(a.Salt, b.Salt) || bytes.Equal(a.Nonce, b.Nonce) {
		t.Error("two slots share salt, nonce or bytes")
	}
	if got, err := reload(t, a).Open("right"); err != nil || !bytes.Equal(got, key) {
		t.Errorf("the right password: %v", err)
	}
	for _, wrong := range []string{"", "wrong", "Right", "right "} {
		if _, err := a.Open(wrong); !holdfast.IsKind(err, holdfast.KindWrongKey) {
			t.Errorf("password %q: %v", wrong, err)
		}
	}
	if got, err := reload(t, keys.NewOpenSlot(id, key)).Open(""); err != nil || !bytes.Equal(got, key) {
		t.Errorf("an open slot: %v", err)
	}
	if _, err := (keys.Slot{Kind: keys.SlotVault}).Open("x"); !holdfast.IsKind(err, holdfast.KindWrongKey) {
		t.Errorf("a vault slot: %v", err)
	}
	if _, err := (keys.Slot{Kind: keys.SlotOpen, Key: []byte("short")}).Open(""); !holdfast.IsKind(err, holdfast.KindCorrupt) {
		t.Errorf("an open slot without a key: %v", err)
	}
	moved := a
	moved.Repository = keys.NewRepositoryID()
	if _, err := moved.Open("right"); !holdfast.IsKind(err, holdfast.KindWrongKey) {
		t.Errorf("a slot moved to another repository: %v", err)
	}
}

// A slot that a vault's key wrapped says what the vault is to unwrap; one that asks for anything else is damage, and label, time and the mark of a
// recovery code survive.
func TestSlot_Vault(t *testing.T) {
	id := keys.NewRepositoryID()
	s := keys.NewVaultSlot(id, keys.Wrapped{KeyID: "https://v/keys/k/1", Algorithm: keys.AlgorithmRSAOAEP256, Bytes: []byte("wrapped")})
	s.Label, s.Created, s.RecoveryCode = "vault", time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC), true
	got := reload(t, s)
	w, err := got.VaultKey()
	if err != nil || w.KeyID != "https://v/keys/k/1" || string(w.Bytes) != "wrapped" || got.Label != "vault" || !got.Created.Equal(s.Created) || !got.RecoveryCode {
		t.Errorf("%+v, %+v, %v", w, got, err)
	}
	for what, spoil := range map[string]func(*keys.Slot){
		"another kind": func(s *keys.Slot) { s.Kind = keys.SlotPassword }, "another algorithm": func(s *keys.Slot) { s.Algorithm = "RSA1_5" },
		"no key": func(s *keys.Slot) { s.KeyID = "" }, "nothing wrapped": func(s *keys.Slot) { s.Wrapped = nil },
	} {
		bad := got
		spoil(&bad)
		if _, err := bad.VaultKey(); !holdfast.IsKind(err, holdfast.KindCorrupt) {
			t.Errorf("%s: %v", what, err)
		}
	}
}

// Recovery codes have 160 bits in 32 digits that nobody confuses, use all digits, and are never the same.
func TestNewRecoveryCode(t *testing.T) {
	seen, digits := map[string]bool{}, map[rune]int{}
	for range 500 {
		code := keys.NewRecoveryCode()
		if len(code) != 39 || strings.Count(code, "-") != 7 || strings.ContainsAny(code, "ILOUilou") || seen[code] {
			t.Fatalf("code %q", code)
		}
		seen[code] = true
		for _, d := range strings.ReplaceAll(code, "-", "") {
			digits[d]++
		}
	}
	for d, n := range digits { // 500 of 16,000 each; far off means that bits are lost
		if n < 350 || n > 650 {
			t.Errorf("the digit %c comes %d times", d, n)
		}
	}
	if len(digits) != 32 {
		t.Errorf("%d digits are in use", len(digits))
	}
}

// The default cost is that of RFC 9106 and works.
func TestSlot_DefaultCost(t *testing.T) {
	id, key := keys.NewRepositoryID(), keys.Random(keys.Size)
	s := keys.NewPasswordSlot(id, key, "p", keys.KDFCost{})
	if s.Time != 3 || s.MemoryKiB != 64<<10 || s.Threads != 4 {
		t.Errorf("cost %d, %d, %d", s.Time, s.MemoryKiB, s.Threads)
	}
	if got, err := s.Open("p"); err != nil || !bytes.Equal(got, key) {
		t.Error(err)
	}
}

// A slot that asks for an absurd computation is refused before it starts: the whole table takes no memory.
func TestSlot_HostileCostsAreRefusedUncomputed(t *testing.T) {
	good := keys.NewPasswordSlot(keys.NewRepositoryID(), keys.Random(keys.Size), "p", fast())
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for what, change := range map[string]func(*keys.Slot){
		"passes":      func(s *keys.Slot) { s.Time = 1 << 31 },
		"65 passes":   func(s *keys.Slot) { s.Time = 65 },
		"no passes":   func(s *keys.Slot) { s.Time = 0 },
		"memory":      func(s *keys.Slot) { s.MemoryKiB = 1<<32 - 1 },
		"1 GiB and 1": func(s *keys.Slot) { s.MemoryKiB = 1<<20 + 1 },
		"no memory":   func(s *keys.Slot) { s.MemoryKiB = 0 },
		"65 threads":  func(s *keys.Slot) { s.Threads = 65 },
		"no threads":  func(s *keys.Slot) { s.Threads = 0 },
		"function":    func(s *keys.Slot) { s.KDF = "md5" },
		"nonce":       func(s *keys.Slot) { s.Nonce = s.Nonce[:11] },
	} {
		s := good
		change(&s)
		if _, err := s.Open("p"); !holdfast.IsKind(err, holdfast.KindCorrupt) {
			t.Errorf("%s: %v", what, err)
		}
		cost := keys.KDFCost{Time: s.Time, MemoryKiB: s.MemoryKiB, Threads: s.Threads}
		if err := cost.Validate(); cost != fast() && !holdfast.IsKind(err, holdfast.KindInvalid) {
			t.Errorf("%s would be written: %v", what, err)
		}
	}
	runtime.ReadMemStats(&after)
	if used := after.TotalAlloc - before.TotalAlloc; used > 1<<20 { // any computation would take 4 GiB, or for ever
		t.Errorf("refusing took %d bytes", used)
	}
	if err := (keys.KDFCost{}).Validate(); err != nil {
		t.Error(err)
	}
}

// Bytes that are no slot of this repository are damage; a newer one is told as newer.
func TestDecode_Refusals(t *testing.T) {
	id, key := keys.NewRepositoryID(), keys.Random(keys.Size)
	slot, err := keys.NewPasswordSlot(id, key, "p", fast()).Encode()
	if err != nil {
		t.Fatal(err)
	}
	ring, err := keys.NewRing(id).Encode(key)
	if err != nil {
		t.Fatal(err)
	}
	newer := func(data []byte) []byte { return bytes.Replace(data, []byte(`"format":1`), []byte(`"format":2`), 1) }
	if _, err := keys.DecodeSlot(slot, keys.NewRepositoryID()); !holdfast.IsKind(err, holdfast.KindCorrupt) {
		t.Errorf("another repository's slot: %v", err)
	}
	if _, err := keys.DecodeSlot(ring, id); !holdfast.IsKind(err, holdfast.KindCorrupt) {
		t.Errorf("a ring as a slot: %v", err)
	}
	if _, err := keys.DecodeSlot(newer(slot), id); !holdfast.IsKind(err, holdfast.KindInvalid) {
		t.Errorf("a newer slot: %v", err)
	}
	if _, err := keys.DecodeRing(slot, id, key); !holdfast.IsKind(err, holdfast.KindCorrupt) {
		t.Errorf("a slot as a ring: %v", err)
	}
	if _, err := keys.DecodeRing(newer(ring), id, key); !holdfast.IsKind(err, holdfast.KindInvalid) {
		t.Errorf("a newer ring: %v", err)
	}
	if _, err := keys.DecodeRing(ring, id, keys.Random(keys.Size)); !holdfast.IsKind(err, holdfast.KindWrongKey) {
		t.Errorf("another key: %v", err)
	}
	if _, err := keys.DecodeRing(ring, keys.NewRepositoryID(), key); !holdfast.IsKind(err, holdfast.KindWrongKey) {
		t.Errorf("another repository's ring: %v", err)
	}
	if strings.Contains(string(ring), "secret") || strings.Contains(string(ring), "identity") {
		t.Error("the ring tells its content")
	}
}

// Rotation adds a generation: new parts use it, old ones still open, and identities stay; the ring survives its encoding.
func TestRing_Rotation(t *testing.T) {
	id, key := keys.NewRepositoryID(), keys.Random(keys.Size)
	old := keys.NewRing(id)
	sealed := seal(t, old, "old")
	rotated := old.Rotated()
	data, err := rotated.Encode(key)
	if err != nil {
		t.Fatal(err)
	}
	ring, err := keys.DecodeRing(data, id, key)
	if err != nil {
		t.Fatal(err)
	}
	if old.Current() != 1 || ring.Current() != 2 {
		t.Errorf("generations %d and %d", old.Current(), ring.Current())
	}
	for _, use := range []string{"chunk", "node", "root", "subject"} {
		if !bytes.Equal(ring.IdentityKey(use), old.IdentityKey(use)) {
			t.Errorf("the %s key changed", use)
		}
	}
	if got, err := ring.OpenEntryPart(1, sealed, "context"); err != nil || string(got) != "old" {
		t.Errorf("an old part: %q, %v", got, err)
	}
	newer := seal(t, ring, "new")
	if got, err := ring.OpenEntryPart(2, newer, "context"); err != nil || string(got) != "new" {
		t.Errorf("a new part: %q, %v", got, err)
	}
	for what, open := range map[string]func() ([]byte, error){
		"the old ring opens the new part": func() ([]byte, error) { return old.OpenEntryPart(2, newer, "context") },
		"another generation":              func() ([]byte, error) { return ring.OpenEntryPart(1, newer, "context") },
		"another context":                 func() ([]byte, error) { return ring.OpenEntryPart(2, newer, "else") },
		"a short part":                    func() ([]byte, error) { return ring.OpenEntryPart(2, newer[:11], "context") },
		"a mac of an unknown generation":  func() ([]byte, error) { return ring.LogMAC(3, nil) },
	} {
		if _, err := open(); !holdfast.IsKind(err, holdfast.KindCorrupt) {
			t.Errorf("%s: %v", what, err)
		}
	}
	macs := map[string]bool{}
	for _, r := range []*keys.Ring{old, ring, keys.NewRing(id)} {
		mac, err := r.LogMAC(r.Current(), []byte("line"))
		if err != nil {
			t.Fatal(err)
		}
		macs[string(mac)] = true
	}
	if len(macs) != 3 {
		t.Error("log keys of different generations or rings are equal")
	}
}

// seal seals a part of an entry with the ring's newest generation.
func seal(t *testing.T, r *keys.Ring, text string) []byte {
	t.Helper()
	sealed, err := r.SealEntryPart(r.Current(), []byte(text), "context")
	if err != nil {
		t.Fatal(err)
	}
	return sealed
}

// A ring that adopts a newer one reads and writes with its generations; one that does not hold what it holds is refused and
// changes nothing.
func TestRing_Adopt(t *testing.T) {
	id := keys.NewRepositoryID()
	ring := keys.NewRing(id)
	one := ring.Rotated()
	two := one.Rotated()
	for what, stranger := range map[string]*keys.Ring{"another repository's": keys.NewRing(keys.NewRepositoryID()).Rotated(), "another identity": keys.NewRing(id).Rotated()} {
		if err := ring.Adopt(stranger); !holdfast.IsKind(err, holdfast.KindCorrupt) || ring.Current() != 1 {
			t.Errorf("%s ring: %v, generation %d", what, err, ring.Current())
		}
	}
	if err := ring.Adopt(two); err != nil || ring.Current() != 3 {
		t.Fatalf("generation %d, %v", ring.Current(), err)
	}
	sealed := seal(t, ring, "new")
	if got, err := two.OpenEntryPart(3, sealed, "context"); err != nil || string(got) != "new" {
		t.Errorf("what the grown ring seals: %q, %v", got, err)
	}
	if err := ring.Adopt(one); !holdfast.IsKind(err, holdfast.KindCorrupt) || ring.Current() != 3 {
		t.Errorf("a ring that has lost a generation: %v", err)
	}
	if _, err := ring.SealEntryPart(4, nil, ""); !holdfast.IsKind(err, holdfast.KindCorrupt) {
		t.Errorf("sealing with a generation that does not exist: %v", err)
	}
}

// Keys for different uses, and of different repositories with the same secret, differ.
func TestRing_DerivedKeysDiffer(t *testing.T) {
	a := keys.NewRing(keys.NewRepositoryID())
	seen := map[string]bool{}
	for _, use := range []string{"chunk", "node", "root", "subject"} {
		k := a.IdentityKey(use)
		if len(k) != keys.Size || seen[string(k)] {
			t.Errorf("the %s key is not its own", use)
		}
		seen[string(k)] = true
	}
}

// No bytes make the decoders panic; what they refuse they refuse in kind.
func FuzzDecodeSlot(f *testing.F) {
	id := keys.RepositoryID{1}
	slot, err := keys.NewPasswordSlot(id, keys.Random(keys.Size), "p", fast()).Encode()
	if err != nil {
		f.Fatal(err)
	}
	open, err := keys.NewOpenSlot(id, keys.Random(keys.Size)).Encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(slot)
	f.Add(open)
	vault, err := keys.NewVaultSlot(id, keys.Wrapped{KeyID: "https://v/keys/k/1", Algorithm: keys.AlgorithmRSAOAEP256, Bytes: []byte("wrapped")}).Encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(vault)
	f.Add([]byte(`{"holdfast":"key slot","kind":"password","memoryKiB":4294967296}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		s, err := keys.DecodeSlot(data, id)
		if err == nil && s.MemoryKiB < 1024 && s.Time < 4 { // else it is right, or refused, but slow
			_, err = s.Open("p")
		}
		if _, err := s.VaultKey(); err != nil && !holdfast.IsKind(err, holdfast.KindCorrupt) {
			t.Error(err)
		}
		if kind := holdfast.KindOf(err); err != nil && kind != holdfast.KindCorrupt && kind != holdfast.KindInvalid && kind != holdfast.KindWrongKey {
			t.Error(err)
		}
	})
}

// A ring is read after it has been authenticated; even so nothing in it makes the decoder panic.
func FuzzDecodeRing(f *testing.F) {
	id, key := keys.RepositoryID{1}, bytes.Repeat([]byte{2}, keys.Size)
	ring, err := keys.NewRing(id).Rotated().Encode(key)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(ring)
	f.Add([]byte(`{"holdfast":"key ring","format":1}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		r, err := keys.DecodeRing(data, id, key)
		if kind := holdfast.KindOf(err); err != nil && kind != holdfast.KindCorrupt && kind != holdfast.KindInvalid && kind != holdfast.KindWrongKey {
			t.Error(err)
		}
		if err == nil {
			if _, err := r.SealEntryPart(r.Current(), nil, ""); err != nil {
				t.Error(err)
			}
		}
	})
}

// Repository ids read back from their text, and from no other text.
func TestRepositoryID_Text(t *testing.T) {
	id := keys.NewRepositoryID()
	text, err := json.Marshal(id)
	if err != nil {
		t.Fatal(err)
	}
	var got keys.RepositoryID
	if err := json.Unmarshal(text, &got); err != nil || got != id {
		t.Errorf("%s reads as %v, %v", text, got, err)
	}
	for _, bad := range []string{"", "ab", strings.Repeat("g", 32), strings.Repeat("A", 32), strings.Repeat("0", 31), strings.Repeat("0", 33)} {
		if err := got.UnmarshalText([]byte(bad)); err == nil {
			t.Errorf("%q is read as an id", bad)
		}
	}
}
