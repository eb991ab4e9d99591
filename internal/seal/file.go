package seal

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"github.com/google/uuid"

	"github.com/holdfast-backup/holdfast"
)

// The key file is text: a line that says what it is, and a line for each key, its id and its bytes in base64. The first one
// seals.
const (
	firstLine = "holdfast sealing keys 1"
	keysMax   = 100 // of a file: who rotates monthly and never drops one has eight years
	fileMax   = 16 << 10
)

// Create makes a key file with one key, readable by its owner alone, and durable when it returns. A file that is there already is
// KindConflict and stays as it is, also when two processes create it at once. It is for a database that holds nothing sealed.
func Create(file string) (*Keys, error) {
	keys := &Keys{keys: []key{drawKey()}}
	if err := write(file, keys, os.Link); err != nil {
		if errors.Is(err, fs.ErrExist) {
			return nil, holdfast.Wrap(holdfast.KindConflict, err, "the key file %s is there already", file)
		}
		return nil, err
	}
	return keys, nil
}

// Load reads a key file. It is KindNotFound when it is not there, KindRefused when others than its owner may read or write it,
// and KindCorrupt when it is no key file or a key of it is damaged.
func Load(file string) (*Keys, error) {
	f, err := os.Open(file)
	if err != nil {
		kind := holdfast.KindRefused
		if errors.Is(err, fs.ErrNotExist) {
			kind = holdfast.KindNotFound
		}
		return nil, holdfast.Wrap(kind, err, "the key file %s cannot be read", file).
			WithHint("secrets in the database cannot be opened without it: restore it from where you keep its copy")
	}
	defer f.Close()
	if err := checkMode(f); err != nil {
		return nil, err
	}
	data, err := io.ReadAll(io.LimitReader(f, fileMax+1))
	if err != nil {
		return nil, holdfast.Wrap(holdfast.KindUnavailable, err, "the key file %s cannot be read", file)
	}
	return parse(file, data)
}

// Rotate adds a key that seals from now on. The keys before it still open. Readers of the file see the old or the new one,
// whole; of two that write it at once one is lost, so callers hold a lock of their database meanwhile. Rows are sealed anew with
// Reseal afterwards, and old keys dropped when none of them is in use.
func Rotate(file string) (*Keys, error) {
	keys, err := Load(file)
	if err != nil {
		return nil, err
	}
	if len(keys.keys) >= keysMax {
		return nil, holdfast.Errorf(holdfast.KindRefused, "the key file %s holds %d keys", file, len(keys.keys)).
			WithHint("seal all rows anew and drop the old keys first")
	}
	rotated := &Keys{keys: append([]key{drawKey()}, keys.keys...)}
	if err := write(file, rotated, os.Rename); err != nil {
		return nil, err
	}
	return rotated, nil
}

// Drop takes keys out of the file for good. The current one is never dropped; an id that the file has not got is passed over,
// so that it may be called again.
func Drop(file string, old ...KeyID) (*Keys, error) {
	keys, err := Load(file)
	if err != nil {
		return nil, err
	}
	if slices.Contains(old, keys.Current()) {
		return nil, holdfast.Errorf(holdfast.KindRefused, "the key %s seals, and cannot be dropped", keys.Current()).WithHint("rotate first")
	}
	left := &Keys{keys: slices.DeleteFunc(slices.Clone(keys.keys), func(one key) bool { return slices.Contains(old, one.id) })}
	if err := write(file, left, os.Rename); err != nil {
		return nil, err
	}
	return left, nil
}

// checkMode refuses a file whose keys may be in other hands already. Windows has no such bits; there the folder's own
// permissions decide.
func checkMode(f *os.File) error {
	status, err := f.Stat()
	if err != nil {
		return holdfast.Wrap(holdfast.KindUnavailable, err, "the key file %s cannot be read", f.Name())
	}
	if !status.Mode().IsRegular() {
		return holdfast.Errorf(holdfast.KindRefused, "the key file %s is not a regular file", f.Name())
	}
	if mode := status.Mode().Perm(); mode&0o077 != 0 && runtime.GOOS != "windows" {
		return holdfast.Errorf(holdfast.KindRefused, "others than its owner have rights on the key file %s (mode %04o)", f.Name(), mode).
			WithHint("chmod 600 %s, and seal with a new key if somebody may have read it", f.Name())
	}
	return nil
}

func parse(file string, data []byte) (*Keys, error) {
	damaged := func(format string, args ...any) error {
		return holdfast.Errorf(holdfast.KindCorrupt, "the key file %s %s", file, fmt.Sprintf(format, args...)).
			WithHint("restore it from where you keep its copy")
	}
	text, whole := bytes.CutSuffix(data, []byte("\n"))
	lines := strings.Split(string(text), "\n")
	if !whole || len(data) > fileMax || lines[0] != firstLine || len(lines) < 2 || len(lines) > keysMax+1 {
		return nil, damaged("is none, or is cut off")
	}
	keys := &Keys{}
	for n, line := range lines[1:] {
		one, ok := parseLine(line)
		if !ok {
			return nil, damaged("is damaged in line %d: its key does not belong to its id", n+2)
		}
		if slices.Contains(keys.IDs(), one.id) {
			return nil, damaged("names the key %s twice", one.id)
		}
		keys.keys = append(keys.keys, one)
	}
	return keys, nil
}

func parseLine(line string) (key, bool) {
	id, encoded, _ := strings.Cut(line, " ")
	secret, err := base64.StdEncoding.Strict().DecodeString(encoded)
	if err != nil || len(secret) != keySize || strings.ContainsAny(encoded, "\r\n") {
		return key{}, false
	}
	one := newKey([keySize]byte(secret))
	return one, one.id.String() == id
}

func (k *Keys) encode() []byte {
	var b bytes.Buffer
	b.WriteString(firstLine + "\n")
	for _, one := range k.keys {
		b.WriteString(one.id.String() + " " + base64.StdEncoding.EncodeToString(one.secret[:]) + "\n")
	}
	return b.Bytes()
}

// write puts the keys into a new file beside the one that is meant, and gives it its name when all of it is on the disk. The
// name is given by os.Link, which leaves a file that is there alone, or by os.Rename, which replaces it.
func write(file string, keys *Keys, name func(from, to string) error) error {
	scratch := file + "." + uuid.NewString() + ".new"
	defer os.RemoveAll(scratch) // what is left of it; nothing after os.Rename
	f, err := os.OpenFile(scratch, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return unwritable(file, err)
	}
	_, err = f.Write(keys.encode())
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return unwritable(file, err)
	}
	if err := name(scratch, file); err != nil {
		return unwritable(file, err)
	}
	return syncFolder(filepath.Dir(file))
}

func unwritable(file string, err error) error {
	return holdfast.Wrap(holdfast.KindUnavailable, err, "the key file %s cannot be written", file)
}

// syncFolder makes a new name durable. Windows cannot open folders, and keeps names with the file.
func syncFolder(folder string) error {
	if runtime.GOOS == "windows" {
		return nil
	}
	d, err := os.Open(folder)
	if err != nil {
		return unwritable(folder, err)
	}
	if err := errors.Join(d.Sync(), d.Close()); err != nil {
		return unwritable(folder, err)
	}
	return nil
}
