package file

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	holdfast "github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/blob"
	"github.com/holdfast-backup/holdfast/internal/blob/blobtest"
)

// lockChecks are the checks that a store without locks and versions leaves out.
var lockChecks = []string{"lock-at-birth", "lock-extend", "versions"}

func open(t *testing.T, folder string) *Store {
	t.Helper()
	store, err := Open(folder, Options{NoSync: true})
	if err != nil {
		t.Fatal(err)
	}
	return store
}

// The folder store keeps every rule of the port, with unnamed temporary files and with named ones.
func TestStore_Conforms(t *testing.T) {
	t.Run("unnamed", func(t *testing.T) {
		store := open(t, filepath.Join(t.TempDir(), "new", "folder"))
		blobtest.Test(t, store, blobtest.Options{Remover: store.Remover(), Prefix: "check"}, lockChecks...)
		if left := files(t, store.root); len(left) > 0 {
			t.Errorf("left behind: %v", left)
		}
	})
	t.Run("named", func(t *testing.T) {
		store := open(t, t.TempDir())
		store.sys.temporary = namedFile
		blobtest.Test(t, store, blobtest.Options{Remover: store.Remover(), Prefix: "check", ListCount: 100, LargeBytes: 1 << 20}, lockChecks...)
		if left := files(t, store.root); len(left) > 0 {
			t.Errorf("left behind: %v", left)
		}
	})
}

// A real sync of everything works on the machine's file system too.
func TestPut_Synced(t *testing.T) {
	store, err := Open(filepath.Join(t.TempDir(), "a", "b"), Options{})
	if err != nil {
		t.Fatal(err)
	}
	if err := store.Put(t.Context(), "x/y", []byte("bytes"), blob.PutOptions{}); err != nil {
		t.Fatal(err)
	}
	if err := store.Remover().Remove(t.Context(), "x/y"); err != nil {
		t.Fatal(err)
	}
}

// When Put returns, the bytes were synced before the name appeared, and every folder that holds a new name after it.
func TestPut_SyncsInOrder(t *testing.T) {
	base := t.TempDir()
	store := open(t, filepath.Join(base, "made", "root"))
	var events []string
	record := func(event, path string) {
		relative, err := filepath.Rel(base, path)
		if err != nil {
			t.Error(err)
		}
		events = append(events, event+" "+filepath.ToSlash(relative))
	}
	store.sys.syncFile = func(f *os.File) error {
		if len(files(t, base)) > 0 {
			t.Error("the name is there before the bytes are synced")
		}
		record("file", filepath.Dir(f.Name()))
		return nil
	}
	store.sys.syncFolder = func(folder string) error { record("folder", folder); return nil }
	if err := store.Put(t.Context(), "x/y/z", []byte("bytes"), blob.PutOptions{}); err != nil {
		t.Fatal(err)
	}
	want := []string{"folder .", "folder made", "folder made/root", "folder made/root/x", "file made/root/x/y", "folder made/root/x/y"}
	if !slices.Equal(events, want) {
		t.Errorf("syncs\n got %q\nwant %q", events, want)
	}

	events = nil
	store.sys.syncFile = func(*os.File) error { return nil }
	if err := store.Put(t.Context(), "x/y/z", nil, blob.PutOptions{}); !errors.Is(err, blob.ErrExists) {
		t.Fatal(err)
	}
	if want := []string{"folder made/root/x/y"}; !slices.Equal(events, want) {
		t.Errorf("before ErrExists the name of the present object is made durable: %q, want %q", events, want)
	}
}

// A folder that another process made, and perhaps never synced, is synced by the first put into it.
func TestPut_SyncsFoldersOfOthers(t *testing.T) {
	store := open(t, t.TempDir())
	if err := os.MkdirAll(filepath.Join(store.root, "x", "y"), 0o700); err != nil {
		t.Fatal(err)
	}
	var synced []string
	store.sys.syncFolder = func(folder string) error { synced = append(synced, folder); return nil }
	if err := store.Put(t.Context(), "x/y/z", nil, blob.PutOptions{}); err != nil {
		t.Fatal(err)
	}
	for _, folder := range []string{store.root, filepath.Join(store.root, "x"), filepath.Join(store.root, "x", "y")} {
		if !slices.Contains(synced, folder) {
			t.Errorf("%s is not synced", folder)
		}
	}
}

// Each step of a put fails in turn: the error's kind and hint tell what to do, no object and no leftover stays, and the
// same put succeeds once the cause is gone.
func TestPut_EveryStepFails(t *testing.T) {
	causes := []struct {
		errno    error
		kind     holdfast.Kind
		readOnly bool
	}{
		{syscall.ENOSPC, holdfast.KindUnavailable, false},
		{syscall.EDQUOT, holdfast.KindUnavailable, false},
		{syscall.EIO, holdfast.KindUnavailable, false},
		{syscall.EROFS, holdfast.KindRefused, true},
		{syscall.EACCES, holdfast.KindRefused, true},
	}
	steps := map[string]func(s *system, err error){
		"temporary": func(s *system, err error) {
			s.temporary = func(string) (*os.File, publish, error) { return nil, nil, err }
		},
		"write": func(s *system, err error) {
			s.write = func(f *os.File, p []byte) (int, error) {
				n, _ := f.Write(p[:len(p)/2])
				return n, err
			}
		},
		"sync": func(s *system, err error) { s.syncFile = func(*os.File) error { return err } },
		"publish": func(s *system, err error) {
			temporary := s.temporary
			s.temporary = func(folder string) (*os.File, publish, error) {
				f, _, openErr := temporary(folder)
				return f, func(string) error { return err }, openErr
			}
		},
	}
	for way, temporary := range map[string]func(string) (*os.File, publish, error){"unnamed": temporaryFile, "named": namedFile} {
		for step, spoil := range steps {
			for _, cause := range causes {
				t.Run(way+"/"+step+"/"+cause.errno.Error(), func(t *testing.T) {
					store := open(t, t.TempDir())
					store.sys.temporary = temporary
					good := store.sys
					spoil(&store.sys, cause.errno)
					err := store.Put(t.Context(), "x/y", []byte("some bytes"), blob.PutOptions{})
					judge(t, err, cause.kind, cause.readOnly)
					if left := files(t, store.root); len(left) > 0 {
						t.Errorf("left behind: %v", left)
					}
					store.sys = good
					if err := store.Put(t.Context(), "x/y", []byte("some bytes"), blob.PutOptions{}); err != nil {
						t.Errorf("put after the cause is gone: %v", err)
					}
				})
			}
		}
	}
}

func judge(t *testing.T, err error, kind holdfast.Kind, readOnly bool) {
	t.Helper()
	var failure *holdfast.Error
	if !errors.As(err, &failure) || failure.Kind != kind || failure.Hint == "" {
		t.Errorf("error %#v, want kind %s with a hint", err, kind)
	}
	if errors.Is(err, blob.ErrReadOnly) != readOnly {
		t.Errorf("read-only store: %v, want %v (%v)", !readOnly, readOnly, err)
	}
}

// A folder sync that fails makes the put fail, and the next put of a name in it syncs again rather than believing it done.
func TestPut_FolderSyncFails(t *testing.T) {
	store := open(t, t.TempDir())
	calls := 0
	store.sys.syncFolder = func(string) error { calls++; return syscall.EIO }
	for range 2 {
		if err := store.Put(t.Context(), "x/y", nil, blob.PutOptions{}); !holdfast.IsKind(err, holdfast.KindUnavailable) {
			t.Fatalf("put whose folder cannot be synced: %v", err)
		}
	}
	if calls != 2 {
		t.Errorf("%d syncs tried in two puts", calls)
	}
}

// On a folder without the right to write the error names the remedy and nothing is left.
func TestPut_NoPermission(t *testing.T) {
	if os.Geteuid() == 0 {
		t.Log("root may write everywhere: proven by injection in TestPut_EveryStepFails alone")
		return
	}
	folder := t.TempDir()
	if err := os.Chmod(folder, 0o500); err != nil {
		t.Fatal(err)
	}
	judge(t, open(t, folder).Put(t.Context(), "x", nil, blob.PutOptions{}), holdfast.KindRefused, true)
}

// A context that ends in the middle of a put leaves nothing.
func TestPut_CancelledInTheMiddle(t *testing.T) {
	for way, temporary := range map[string]func(string) (*os.File, publish, error){"unnamed": temporaryFile, "named": namedFile} {
		t.Run(way, func(t *testing.T) {
			store := open(t, t.TempDir())
			store.sys.temporary = temporary
			ctx, cancel := context.WithCancel(t.Context())
			store.sys.write = func(f *os.File, p []byte) (int, error) { cancel(); return f.Write(p) }
			err := store.Put(ctx, "x", make([]byte, 2*writePiece), blob.PutOptions{})
			if !errors.Is(err, context.Canceled) {
				t.Errorf("cancelled put: %v", err)
			}
			if left := files(t, store.root); len(left) > 0 {
				t.Errorf("left behind: %v", left)
			}
		})
	}
}

// A crash leaves nothing with unnamed files; with named ones it leaves a file that is no object, that lists miss, and that
// Sweep removes.
func TestSweep_AfterCrash(t *testing.T) {
	store := open(t, t.TempDir())
	if err := store.Put(t.Context(), "x/y", []byte("kept"), blob.PutOptions{}); err != nil {
		t.Fatal(err)
	}
	crash := func(temporary func(string) (*os.File, publish, error)) {
		f, _, err := temporary(filepath.Join(store.root, "x"))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.Write([]byte("half")); err != nil {
			t.Fatal(err)
		}
		if err := f.Close(); err != nil { // what the kernel does for a process that dies
			t.Fatal(err)
		}
	}
	crash(namedFile)
	if names := list(t, store, ""); !slices.Equal(names, []string{"x/y"}) {
		t.Errorf("list after a crash: %v", names)
	}
	if left, err := store.Leftovers(t.Context(), time.Now().Add(-time.Hour)); len(left) != 0 || err != nil {
		t.Errorf("a put that may still work left %v, %v", left, err)
	}
	left, err := store.Leftovers(t.Context(), time.Now().Add(time.Hour))
	if err != nil || len(left) != 1 || left[0].Size != 4 || !strings.HasPrefix(left[0].Name, "x/.tmp-") {
		t.Errorf("leftovers %v, %v", left, err)
	}
	for range 2 {
		if err := store.Sweep(left); err != nil {
			t.Error(err)
		}
	}
	if left := files(t, store.root); len(left) != 1 {
		t.Errorf("after the sweep: %v", left)
	}
	if left, err := open(t, filepath.Join(store.root, "nowhere")).Leftovers(t.Context(), time.Now()); len(left) != 0 || err != nil {
		t.Errorf("leftovers in a folder that does not exist: %v, %v", left, err)
	}
}

// Names cannot leave the folder, and symbolic links are not followed.
func TestStore_StaysInside(t *testing.T) {
	base := t.TempDir()
	if err := os.WriteFile(filepath.Join(base, "secret"), []byte("secret"), 0o600); err != nil {
		t.Fatal(err)
	}
	store := open(t, filepath.Join(base, "root"))
	if err := store.Put(t.Context(), "x", nil, blob.PutOptions{}); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"../secret", "/secret", "x/../../secret", ".", ""} {
		if _, err := store.Read(t.Context(), name, 0, make([]byte, 6)); !holdfast.IsKind(err, holdfast.KindInvalid) {
			t.Errorf("read of %q: %v", name, err)
		}
		if err := store.Put(t.Context(), name, nil, blob.PutOptions{}); !holdfast.IsKind(err, holdfast.KindInvalid) {
			t.Errorf("put of %q: %v", name, err)
		}
		if err := store.Remover().Remove(t.Context(), name); !holdfast.IsKind(err, holdfast.KindInvalid) {
			t.Errorf("remove of %q: %v", name, err)
		}
	}
	for _, prefix := range []string{"../", "/", "../secret", "x/../../", "//"} {
		if names := list(t, store, prefix); len(names) > 0 {
			t.Errorf("list of %q: %v", prefix, names)
		}
	}
	if err := os.Symlink(filepath.Join(base, "secret"), filepath.Join(store.root, "link")); err != nil {
		t.Fatal(err)
	}
	if n, err := store.Read(t.Context(), "link", 0, make([]byte, 6)); n != 0 || !holdfast.IsKind(err, holdfast.KindCorrupt) {
		t.Errorf("read through a link: %d bytes, %v", n, err)
	}
	if _, err := store.Stat(t.Context(), "link"); !holdfast.IsKind(err, holdfast.KindCorrupt) {
		t.Errorf("stat of a link: %v", err)
	}
}

// What Holdfast did not write shows in lists, so that it can be found; order holds where folders and files mix.
func TestList_ShowsForeignFilesInOrder(t *testing.T) {
	store := open(t, t.TempDir())
	want := []string{"README.md", "a-b", "a.b", "a/c", "a0", "dangling"}
	for _, name := range []string{"a-b", "a.b", "a/c", "a0"} {
		if err := store.Put(t.Context(), name, nil, blob.PutOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	err := errors.Join(os.WriteFile(filepath.Join(store.root, "README.md"), nil, 0o600),
		os.Symlink("nowhere", filepath.Join(store.root, "dangling")), os.Mkdir(filepath.Join(store.root, "empty"), 0o700))
	if err != nil {
		t.Fatal(err)
	}
	if names := list(t, store, ""); !slices.Equal(names, want) {
		t.Errorf("list\n got %q\nwant %q", names, want)
	}
	if names := list(t, store, "a/"); !slices.Equal(names, []string{"a/c"}) {
		t.Errorf("list of a folder: %q", names)
	}
}

// A name that is a folder of others, or lies below an object, is refused as bad input and never taken for an object.
func TestPut_FolderInTheWay(t *testing.T) {
	store := open(t, t.TempDir())
	for _, name := range []string{"a/b", "c"} {
		if err := store.Put(t.Context(), name, []byte("x"), blob.PutOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"a", "c/d", "c/d/e"} {
		if err := store.Put(t.Context(), name, nil, blob.PutOptions{}); !holdfast.IsKind(err, holdfast.KindInvalid) {
			t.Errorf("put of %q: %v", name, err)
		}
		if _, err := store.Stat(t.Context(), name); !errors.Is(err, blob.ErrNotFound) {
			t.Errorf("stat of %q: %v", name, err)
		}
		if _, err := store.Read(t.Context(), name, 0, make([]byte, 1)); !errors.Is(err, blob.ErrNotFound) {
			t.Errorf("read of %q: %v", name, err)
		}
		if err := store.Remover().Remove(t.Context(), name); err != nil {
			t.Errorf("remove of %q: %v", name, err)
		}
	}
}

// A folder that somebody removed while the store was open is made again, durably.
func TestPut_AfterFolderWasRemoved(t *testing.T) {
	store := open(t, filepath.Join(t.TempDir(), "root"))
	for range 2 {
		if err := store.Put(t.Context(), "x/y", []byte("bytes"), blob.PutOptions{}); err != nil {
			t.Fatal(err)
		}
		if err := os.RemoveAll(store.root); err != nil {
			t.Fatal(err)
		}
	}
}

// A lock is refused, never ignored, and leaves nothing.
func TestPut_LockRefused(t *testing.T) {
	store := open(t, t.TempDir())
	err := store.Put(t.Context(), "x", nil, blob.PutOptions{LockUntil: time.Unix(2_000_000_000, 0)})
	judge(t, err, holdfast.KindInvalid, false)
	if left := files(t, store.root); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

func TestStore_URL(t *testing.T) {
	store := open(t, t.TempDir())
	if url := store.URL(); url != "file://"+filepath.ToSlash(store.root) || strings.HasSuffix(url, "/") {
		t.Errorf("URL %q", url)
	}
	if _, err := Open("", Options{}); !holdfast.IsKind(err, holdfast.KindInvalid) {
		t.Errorf("open without a folder: %v", err)
	}
}

// files returns all files below folder, temporary ones included, by their path relative to it.
func files(t *testing.T, folder string) []string {
	t.Helper()
	var found []string
	err := filepath.WalkDir(folder, func(path string, entry fs.DirEntry, err error) error {
		if err == nil && !entry.IsDir() {
			found = append(found, path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

func list(t *testing.T, store *Store, prefix string) []string {
	t.Helper()
	var names []string
	for info, err := range store.List(t.Context(), prefix) {
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, info.Name)
	}
	return names
}

// BenchmarkRead measures a random 4 KiB read, opening the file each time: the reason why there is no cache of open files.
func BenchmarkRead(b *testing.B) {
	store, err := Open(b.TempDir(), Options{NoSync: true})
	if err != nil {
		b.Fatal(err)
	}
	const size = 16 << 20
	if err := store.Put(b.Context(), "x", bytes.Repeat([]byte{1}, size), blob.PutOptions{}); err != nil {
		b.Fatal(err)
	}
	p := make([]byte, 4096)
	for i := 0; b.Loop(); i++ {
		if _, err := store.Read(b.Context(), "x", int64(i*7919%size)&^4095, p); err != nil {
			b.Fatal(err)
		}
	}
}

// Folders go when all objects in them are gone, and not before.
func TestRemoveFolders(t *testing.T) {
	store := open(t, t.TempDir())
	for _, name := range []string{"check/a/b", "check/c/d/e"} {
		if err := store.Put(t.Context(), name, nil, blob.PutOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	if err := store.Remover().Remove(t.Context(), "check/a/b"); err != nil {
		t.Fatal(err)
	}
	if err := store.RemoveFolders("check"); err == nil || len(files(t, store.root)) != 1 {
		t.Errorf("with an object in it: %v, %v", err, files(t, store.root))
	}
	if err := store.Remover().Remove(t.Context(), "check/c/d/e"); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := store.RemoveFolders("check"); err != nil {
			t.Error(err)
		}
	}
	if isFolder(filepath.Join(store.root, "check")) {
		t.Error("the empty folder is still there")
	}
}
