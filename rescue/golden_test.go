package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// goldenFolder holds repositories of every format version, which Holdfast wrote and this program never touches.
const goldenFolder = "../testdata/repos"

// golden is what is known about a golden repository.
type golden struct {
	name     string
	Password string   `json:"password"`
	Also     []string `json:"also"`   // other passwords that open it
	Closed   []string `json:"closed"` // passwords that were dropped
	Points   []struct {
		ID    string `json:"id"`
		VM    string `json:"vm"`
		Disks []struct {
			LUN       string `json:"lun"`
			SizeBytes int64  `json:"sizeBytes"`
			Root      string `json:"root"`
			SHA256    string `json:"sha256"`
		} `json:"disks"`
	} `json:"points"`
}

// goldens returns all golden repositories.
func goldens(t *testing.T) []golden {
	t.Helper()
	names, err := filepath.Glob(goldenFolder + "/*.json")
	if err != nil || len(names) < 2 {
		t.Fatalf("golden repositories: %v %v", names, err)
	}
	var all []golden
	for _, name := range names {
		content, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		g := golden{name: strings.TrimSuffix(filepath.Base(name), ".json")}
		if err := json.Unmarshal(content, &g); err != nil {
			t.Fatal(err)
		}
		all = append(all, g)
	}
	return all
}

// goldenNamed returns one of them.
func goldenNamed(t *testing.T, name string) golden {
	t.Helper()
	for _, g := range goldens(t) {
		if g.name == name {
			return g
		}
	}
	t.Fatalf("there is no golden repository %s", name)
	return golden{}
}

func (g golden) folder() string { return filepath.Join(goldenFolder, g.name) }

// copied returns a copy that a test may damage.
func (g golden) copied(t testing.TB) string {
	t.Helper()
	folder := filepath.Join(t.TempDir(), g.name)
	if err := os.CopyFS(folder, os.DirFS(g.folder())); err != nil {
		t.Fatal(err)
	}
	return folder
}

// call runs the program as main does.
func call(t testing.TB, password string, arguments ...string) (code int, out, log string) {
	t.Helper()
	var stdout, stderr bytes.Buffer
	code = run(t.Context(), arguments, streams{out: &stdout, log: &stderr, getenv: func(string) string { return password }})
	return code, stdout.String(), stderr.String()
}

// bring extracts a disk into a new file and returns what the program says and the file.
func bring(t testing.TB, password, repo, point, disk string, more ...string) (code int, result extracted, content []byte) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "disk.img")
	code, out, log := call(t, password, append([]string{"extract", "--json", "--repo", repo, "--point", point, "--disk", disk, "--out", file}, more...)...)
	if err := json.Unmarshal([]byte(out), &result); err != nil {
		t.Fatalf("exit %d, %q is no JSON: %v\n%s", code, out, err, log)
	}
	content, err := os.ReadFile(file)
	if code == 0 && err != nil || code != 0 && err == nil && result.File == "" {
		t.Fatalf("exit %d, and reading the file says %v", code, err)
	}
	if left, _ := filepath.Glob(file + "*"); len(left) > 1 || code != 0 && result.File == "" && len(left) > 0 {
		t.Fatalf("exit %d, and it left %v", code, left)
	}
	return code, result, content
}

func hashed(content []byte) string {
	sum := sha256.Sum256(content)
	return hex.EncodeToString(sum[:])
}

// TestGolden proves that a reader which was written from doc/format.md alone lists every point of every golden repository,
// and brings every disk of them back with the bytes that were backed up.
func TestGolden(t *testing.T) {
	for _, g := range goldens(t) {
		t.Run(g.name, func(t *testing.T) {
			code, out, log := call(t, g.Password, "list", "--json", "--repo", g.folder())
			var points []listed
			if err := json.Unmarshal([]byte(out), &points); err != nil || code != 0 || log != "" {
				t.Fatalf("exit %d, %v, %s", code, err, log)
			}
			if len(points) != len(g.Points) {
				t.Fatalf("%d points, want %d", len(points), len(g.Points))
			}
			for i, want := range g.Points {
				if got := points[i]; got.ID != want.ID || got.VM != want.VM || got.Problem != "" || len(got.Disks) != len(want.Disks) {
					t.Errorf("point %+v, want %+v", got, want)
				}
				for n, d := range want.Disks {
					if got := points[i].Disks[n]; got.LUN != d.LUN || got.SizeBytes != d.SizeBytes || got.Root != d.Root {
						t.Errorf("%s: disk %+v, want %+v", want.ID, got, d)
					}
					code, result, content := bring(t, g.Password, g.folder(), want.ID, d.LUN)
					if code != 0 || !result.Equal || result.Root != d.Root || int64(len(content)) != d.SizeBytes || hashed(content) != d.SHA256 {
						t.Errorf("%s: disk %s: exit %d, %+v", want.ID, d.LUN, code, result)
					}
				}
			}
		})
	}
}

// TestGolden_Passwords proves that every current password opens a golden repository, a recovery code in lower case
// too, and that a dropped one does not, unless the old key is asked for.
func TestGolden_Passwords(t *testing.T) {
	tried := 0
	for _, g := range goldens(t) {
		for _, password := range g.Also {
			tried++
			if code, _, log := call(t, strings.ToLower(password), "list", "--repo", g.folder()); code != 0 {
				t.Errorf("%s: %s: exit %d, %s", g.name, password, code, log)
			}
		}
		for _, password := range g.Closed {
			tried++
			if code, _, log := call(t, password, "list", "--repo", g.folder()); code != 6 {
				t.Errorf("%s: %s: exit %d, %s", g.name, password, code, log)
			}
		}
	}
	if tried < 2 {
		t.Errorf("golden repositories have %d such passwords", tried)
	}
}

// TestGolden_Sparse proves that holes of a disk stay holes of the file.
func TestGolden_Sparse(t *testing.T) {
	g := goldenNamed(t, "v1")
	_, result, content := bring(t, g.Password, g.folder(), g.Points[0].ID, "os")
	if result.WrittenBytes >= int64(len(content))/2 {
		t.Errorf("%d of %d bytes were written", result.WrittenBytes, len(content))
	}
}

// TestCanceled proves that an interrupted extraction ends, says so, and leaves no file.
func TestCanceled(t *testing.T) {
	g := goldenNamed(t, "v1")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	var log bytes.Buffer
	file := filepath.Join(t.TempDir(), "disk.img")
	code := run(ctx, []string{"extract", "--repo", g.folder(), "--point", g.Points[0].ID, "--disk", "os", "--out", file},
		streams{out: io.Discard, log: &log, getenv: func(string) string { return g.Password }})
	if left, _ := filepath.Glob(file + "*"); code != 1 || len(left) > 0 || !strings.Contains(log.String(), "interrupted") {
		t.Errorf("exit %d, left %v, said %q", code, left, log.String())
	}
}
