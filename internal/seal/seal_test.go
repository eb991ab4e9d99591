package seal_test

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"pgregory.net/rapid"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/seal"
)

func create(t testing.TB) (*seal.Keys, string) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "seal.key")
	keys, err := seal.Create(file)
	if err != nil {
		t.Fatal(err)
	}
	return keys, file
}

func sealed(t testing.TB, keys *seal.Keys, row, secret string) []byte {
	t.Helper()
	out, err := keys.Seal(row, []byte(secret))
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// TestSeal_Opens proves that any secret comes back for its own row and for no other, by keys read from the file anew.
func TestSeal_Opens(t *testing.T) {
	keys, file := create(t)
	again, err := seal.Load(file)
	if err != nil {
		t.Fatal(err)
	}
	rapid.Check(t, func(rt *rapid.T) {
		row, other := rapid.String().Draw(rt, "row"), rapid.String().Draw(rt, "other row")
		secret := rapid.SliceOfN(rapid.Byte(), 0, 200).Draw(rt, "secret")
		out, err := keys.Seal(row, secret)
		if err != nil {
			rt.Fatal(err)
		}
		if back, err := again.Open(row, out); err != nil || !bytes.Equal(back, secret) {
			rt.Fatalf("%x, %v", back, err)
		}
		if len(secret) > 8 && bytes.Contains(out, secret) {
			rt.Fatal("the secret stands in what is sealed")
		}
		if _, err := again.Open(other, out); other != row && (!holdfast.IsKind(err, holdfast.KindCorrupt) || !strings.Contains(err.Error(), "for another row")) {
			rt.Fatalf("opened for %q: %v", other, err)
		}
	})
}

// TestOpen_EveryBit proves that a flipped bit anywhere is found, and that nothing is ever told to be moved that is damaged.
func TestOpen_EveryBit(t *testing.T) {
	keys, _ := create(t)
	out := sealed(t, keys, "mail.password", "correct horse")
	for bit := range 8 * len(out) {
		bad := bytes.Clone(out)
		bad[bit/8] ^= 1 << (bit % 8)
		_, err := keys.Open("mail.password", bad)
		want := holdfast.KindCorrupt
		if byte := bit / 8; byte >= 4 && byte < 12 {
			want = holdfast.KindWrongKey // the key's id
		}
		if !holdfast.IsKind(err, want) || strings.Contains(err.Error(), "another row") || strings.Contains(err.Error(), "horse") {
			t.Fatalf("bit %d: %v", bit, err)
		}
	}
	for n := range len(out) {
		if _, err := keys.Open("mail.password", out[:n]); !holdfast.IsKind(err, holdfast.KindCorrupt) {
			t.Fatalf("the first %d bytes: %v", n, err)
		}
	}
}

// TestOpen_WrongKey proves that the error names the key that is wanted, and those that are there.
func TestOpen_WrongKey(t *testing.T) {
	one, _ := create(t)
	two, _ := create(t)
	_, err := two.Open("a", sealed(t, one, "a", "s"))
	var e *holdfast.Error
	if !errors.As(err, &e) || e.Kind != holdfast.KindWrongKey || !strings.Contains(e.Message, one.Current().String()) || !strings.Contains(e.Hint, two.Current().String()) {
		t.Errorf("%+v", err)
	}
}

// TestRotate walks through a rotation: new key, old rows still open, rows sealed anew, old key dropped.
func TestRotate(t *testing.T) {
	old, file := create(t)
	row := sealed(t, old, "a", "secret")
	rotated, err := seal.Rotate(file)
	if err != nil || rotated.Current() == old.Current() || len(rotated.IDs()) != 2 {
		t.Fatalf("%v, %v", rotated, err)
	}
	again, changed, err := rotated.Reseal("a", row)
	if err != nil || !changed {
		t.Fatalf("%t, %v", changed, err)
	}
	if same, changed, err := rotated.Reseal("a", again); err != nil || changed || !bytes.Equal(same, again) {
		t.Errorf("sealed twice: %t, %v", changed, err)
	}
	if _, _, err := rotated.Reseal("b", again); !holdfast.IsKind(err, holdfast.KindCorrupt) {
		t.Errorf("a moved row was sealed anew: %v", err)
	}
	if _, err := seal.Drop(file, rotated.Current()); !holdfast.IsKind(err, holdfast.KindRefused) {
		t.Errorf("the current key was dropped: %v", err)
	}
	for range 2 {
		left, err := seal.Drop(file, old.Current())
		if err != nil || len(left.IDs()) != 1 {
			t.Fatalf("%v, %v", left, err)
		}
		if secret, err := left.Open("a", again); err != nil || string(secret) != "secret" {
			t.Errorf("%q, %v", secret, err)
		}
		if _, err := left.Open("a", row); !holdfast.IsKind(err, holdfast.KindWrongKey) {
			t.Errorf("opened with a key that was dropped: %v", err)
		}
	}
}

// TestRotate_Full proves that a file does not grow without end, and stays readable when it refuses to.
func TestRotate_Full(t *testing.T) {
	_, file := create(t)
	for n := 2; n <= 100; n++ {
		if _, err := seal.Rotate(file); err != nil {
			t.Fatalf("key %d: %v", n, err)
		}
	}
	if _, err := seal.Rotate(file); !holdfast.IsKind(err, holdfast.KindRefused) {
		t.Errorf("%v", err)
	}
	if keys, err := seal.Load(file); err != nil || len(keys.IDs()) != 100 {
		t.Errorf("%v", err)
	}
}

// TestCreate_Once proves that of many first starts at once one makes the key, and that nothing is left beside it.
func TestCreate_Once(t *testing.T) {
	file := filepath.Join(t.TempDir(), "seal.key")
	var wait sync.WaitGroup
	made := make(chan *seal.Keys, 8)
	for range cap(made) {
		wait.Go(func() {
			keys, err := seal.Create(file)
			if err != nil && !holdfast.IsKind(err, holdfast.KindConflict) {
				t.Error(err)
			}
			if err == nil {
				made <- keys
			}
		})
	}
	wait.Wait()
	if len(made) != 1 {
		t.Fatalf("%d keys were made", len(made))
	}
	keys, err := seal.Load(file)
	if winner := <-made; err != nil || keys.Current() != winner.Current() {
		t.Errorf("%v", err)
	}
	entries, _ := os.ReadDir(filepath.Dir(file))
	status, err := os.Stat(file)
	if err != nil || len(entries) != 1 || status.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v, %v", entries, status.Mode(), err)
	}
}

// TestLoad_Refuses proves that no file is taken that others can read, or that is not as it was written.
func TestLoad_Refuses(t *testing.T) {
	_, file := create(t)
	good, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name string
		text string
		mode os.FileMode
		kind holdfast.Kind
	}{
		{"readable by the group", string(good), 0o640, holdfast.KindRefused},
		{"writable by others", string(good), 0o602, holdfast.KindRefused},
		{"empty", "", 0o600, holdfast.KindCorrupt},
		{"cut off", string(good[:len(good)-2]), 0o600, holdfast.KindCorrupt},
		{"without its last end of line", string(good[:len(good)-1]), 0o600, holdfast.KindCorrupt},
		{"no key", "holdfast sealing keys 1\n", 0o600, holdfast.KindCorrupt},
		{"a later version", strings.Replace(string(good), "keys 1", "keys 2", 1), 0o600, holdfast.KindCorrupt},
		{"twice", string(good) + strings.SplitN(string(good), "\n", 2)[1], 0o600, holdfast.KindCorrupt},
		{"too long", string(good) + strings.Repeat("x", 20_000) + "\n", 0o600, holdfast.KindCorrupt},
	} {
		t.Run(c.name, func(t *testing.T) {
			bad := filepath.Join(t.TempDir(), "seal.key")
			if err := os.WriteFile(bad, []byte(c.text), 0o600); err != nil {
				t.Fatal(err)
			}
			if err := os.Chmod(bad, c.mode); err != nil {
				t.Fatal(err)
			}
			if _, err := seal.Load(bad); !holdfast.IsKind(err, c.kind) {
				t.Errorf("%v, want %s", err, c.kind)
			}
		})
	}
	if _, err := seal.Load(filepath.Join(t.TempDir(), "none")); !holdfast.IsKind(err, holdfast.KindNotFound) {
		t.Errorf("no file: %v", err)
	}
	if _, err := seal.Load(t.TempDir()); err == nil {
		t.Error("a folder was taken for a key file")
	}
}

// TestLoad_EveryCharacter proves that no changed character of a key file goes unnoticed, and that errors do not tell the key.
func TestLoad_EveryCharacter(t *testing.T) {
	_, file := create(t)
	good, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	secret := strings.Fields(string(good))[5]
	for i := range good {
		bad := bytes.Clone(good)
		bad[i] ^= 1
		if err := os.WriteFile(file, bad, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := seal.Load(file); !holdfast.IsKind(err, holdfast.KindCorrupt) || strings.Contains(err.Error(), secret) {
			t.Errorf("character %d: %v", i, err)
		}
	}
}

// TestSeal_TooLong proves that the limit is held.
func TestSeal_TooLong(t *testing.T) {
	keys, _ := create(t)
	if _, err := keys.Seal("a", make([]byte, 64<<10+1)); !holdfast.IsKind(err, holdfast.KindInvalid) {
		t.Errorf("%v", err)
	}
	if _, err := keys.Seal("a", make([]byte, 64<<10)); err != nil {
		t.Errorf("%v", err)
	}
}

func TestParseKeyID(t *testing.T) {
	keys, _ := create(t)
	if id, err := seal.ParseKeyID(keys.Current().String()); err != nil || id != keys.Current() {
		t.Errorf("%v, %v", id, err)
	}
	for _, bad := range []string{"", "00", "zz00000000000000", "000000000000000000"} {
		if _, err := seal.ParseKeyID(bad); !holdfast.IsKind(err, holdfast.KindInvalid) {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

// FuzzOpen feeds bytes of somebody else: nothing opens, and nothing breaks.
func FuzzOpen(f *testing.F) {
	keys, _ := create(f)
	other, _ := create(f)
	f.Add(sealed(f, other, "a", "s"))
	f.Add([]byte("hfs1"))
	f.Fuzz(func(t *testing.T, data []byte) {
		if _, err := keys.Open("a", data); err == nil {
			t.Errorf("%x opens", data)
		}
	})
}
