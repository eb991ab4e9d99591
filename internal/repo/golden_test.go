package repo_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/blob"
	"github.com/holdfast-backup/holdfast/internal/blob/file"
	"github.com/holdfast-backup/holdfast/internal/repo"
	"github.com/holdfast-backup/holdfast/internal/repo/repotest"
)

// update makes the golden repositories that are not there. One that is there is never written again: every later build opens
// what an earlier one wrote.
var update = flag.Bool("update", false, "write the golden repositories that are missing")

const goldenFolder = "../../testdata/repos"

// golden is what a golden repository holds, told beside it in NAME.json.
type golden struct {
	Password string        `json:"password"`         // "" when the repository is not encrypted
	Also     []string      `json:"also,omitempty"`   // other passwords and recovery codes that open it
	Closed   []string      `json:"closed,omitempty"` // passwords that a key change has dropped
	Points   []goldenPoint `json:"points"`           // oldest first
}

type goldenPoint struct {
	ID    holdfast.PointID    `json:"id"`
	VM    holdfast.ResourceID `json:"vm"`
	Disks []goldenDisk        `json:"disks"`
}

type goldenDisk struct {
	LUN       holdfast.LUN  `json:"lun"`
	SizeBytes int64         `json:"sizeBytes"`
	Root      holdfast.Root `json:"root"`
	SHA256    string        `json:"sha256"` // of the disk's content
}

// Every golden repository opens, is sound at both levels, and restores what it always did; a backup can be added to it.
func TestGolden(t *testing.T) {
	if *update {
		writeGolden(t, "v1", golden{Password: repotest.Password}, func(_ blob.Store, r *repo.Repository) *golden { fillGolden(t, r, 23); return nil })
		writeGolden(t, "v1-unencrypted", golden{}, func(_ blob.Store, r *repo.Repository) *golden { fillGolden(t, r, 2); return nil })
		writeGolden(t, "v1-index", golden{Password: repotest.Password}, func(_ blob.Store, r *repo.Repository) *golden { fillGolden(t, r, 7); return nil })
		writeGolden(t, "v1-keys", golden{Password: repotest.Password}, func(store blob.Store, r *repo.Repository) *golden { return fillGoldenKeys(t, store, r) })
	}
	descriptions, err := filepath.Glob(filepath.Join(goldenFolder, "*.json"))
	if err != nil || len(descriptions) == 0 {
		t.Fatal("there are no golden repositories", err)
	}
	for _, description := range descriptions {
		name := strings.TrimSuffix(filepath.Base(description), ".json")
		t.Run(name, func(t *testing.T) {
			var want golden
			data, err := os.ReadFile(description)
			if err != nil {
				t.Fatal(err)
			}
			if err := json.Unmarshal(data, &want); err != nil {
				t.Fatal(err)
			}
			checkGolden(t, filepath.Join(goldenFolder, name), want)
		})
	}
}

func checkGolden(t *testing.T, folder string, want golden) {
	t.Helper()
	work := t.TempDir()
	if err := os.CopyFS(work, os.DirFS(folder)); err != nil {
		t.Fatal(err)
	}
	store, err := file.Open(work, file.Options{NoSync: true})
	if err != nil {
		t.Fatal(err)
	}
	options := openOptions()
	options.Password = want.Password
	r, err := repo.Open(t.Context(), store, options)
	if err != nil {
		t.Fatal(err)
	}
	mustBeSound(t, store, r)
	for _, password := range want.Also {
		options.Password = password
		if _, err := repo.Open(t.Context(), store, options); err != nil {
			t.Errorf("the password %q: %v", password, err)
		}
	}
	for _, password := range want.Closed {
		options.Password = password
		if _, err := repo.Open(t.Context(), store, options); !holdfast.IsKind(err, holdfast.KindWrongKey) {
			t.Errorf("the dropped password %q: %v", password, err)
		}
	}
	points, err := r.Points()
	if err != nil || len(points) != len(want.Points) {
		t.Fatalf("%d points, want %d, %v", len(points), len(want.Points), err)
	}
	for i, p := range points {
		got := describePoint(t, r, p)
		if a, b := fmt.Sprintf("%+v", got), fmt.Sprintf("%+v", want.Points[i]); a != b {
			t.Errorf("point %d is\n%s, want\n%s", i, a, b)
		}
	}
	d := repotest.NewDisk(5 * chunkSize)
	d.Scribble(newRand(1), 5, 50<<10)
	p := mustBackup(t, r, "a new machine", d, nil)
	mustEqual(t, r, p.ID, d.Data)
	mustBeSound(t, store, r)
}

func mustBeSound(t *testing.T, store blob.Store, r *repo.Repository) {
	t.Helper()
	for _, o := range []repo.VerifyOptions{{Level: repo.VerifyStored}, {Level: repo.VerifyComplete, Repository: r}} {
		if report, err := repo.Verify(t.Context(), store, o); err != nil || !report.OK {
			t.Fatalf("verify: %+v, %v", report, err)
		}
	}
}

// describePoint reads a point whole.
func describePoint(t *testing.T, r *repo.Repository, p repo.PointSummary) goldenPoint {
	t.Helper()
	described := goldenPoint{ID: p.ID, VM: p.VM}
	reader, err := r.OpenPoint(t.Context(), p.ID)
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range reader.Point().Disks {
		disk, err := reader.Disk(d.LUN)
		if err != nil {
			t.Fatal(err)
		}
		b := &repotest.Buffer{Data: make([]byte, disk.SizeBytes())}
		if err := disk.CopyTo(t.Context(), b, repo.CopyOptions{}); err != nil {
			t.Fatal(err)
		}
		sum := sha256.Sum256(b.Data)
		described.Disks = append(described.Disks, goldenDisk{d.LUN, d.SizeBytes, d.Root, hex.EncodeToString(sum[:])})
	}
	return described
}

// goldenBytesMax keeps the repositories fit for a source tree.
const goldenBytesMax = 300 << 10

// writeGolden makes a repository that is not there and describes it. fill may tell more of its secrets.
func writeGolden(t *testing.T, name string, described golden, fill func(blob.Store, *repo.Repository) *golden) {
	t.Helper()
	folder := filepath.Join(goldenFolder, name)
	if _, err := os.Stat(folder); err == nil {
		t.Logf("%s is there and stays as it is", name)
		return
	}
	store, err := file.Open(folder, file.Options{})
	if err != nil {
		t.Fatal(err)
	}
	r, err := repo.Init(t.Context(), store, repo.InitOptions{
		Password: described.Password, Unencrypted: described.Password == "", KDF: repotest.FastKDF(), Clock: openOptions().Clock, Tool: "holdfast golden",
		Parameters: repo.Parameters{ChunkSize: chunkSize, FrameSize: 2 * chunkSize, FanOut: 8},
	})
	if err != nil {
		t.Fatal(err)
	}
	if told := fill(store, r); told != nil {
		described = *told
	}
	options := openOptions()
	options.Password = described.Password
	if r, err = repo.Open(t.Context(), store, options); err != nil {
		t.Fatal(err)
	}
	points, err := r.Points()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range points {
		described.Points = append(described.Points, describePoint(t, r, p))
	}
	data, err := json.MarshalIndent(described, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(folder+".json", append(data, '\n'), 0o644); err != nil {
		t.Fatal(err)
	}
	size := int64(0)
	err = fs.WalkDir(os.DirFS(folder), ".", func(_ string, entry fs.DirEntry, err error) error {
		if err == nil && !entry.IsDir() {
			info, statErr := entry.Info()
			if statErr != nil {
				return statErr
			}
			size += info.Size()
		}
		return err
	})
	if err != nil || size > goldenBytesMax {
		t.Fatalf("%s has %d bytes, %v", folder, size, err)
	}
	t.Logf("%s: %d bytes, %d points", folder, size, len(points))
}

// fillGoldenKeys makes a repository whose keys have a history: three generations, the last of them after a revocation; a password, a
// recovery code and a vault key in force; another password, and old slots of all of them, that open nothing any more.
func fillGoldenKeys(t *testing.T, store blob.Store, r *repo.Repository) *golden {
	t.Helper()
	fillGolden(t, r, 2)
	change := mustChange(t)
	options := openOptions()
	options.Vault = &vault{mask: 0x5a}
	open := func() *repo.Repository {
		opened, err := repo.Open(t.Context(), store, options)
		if err != nil {
			t.Fatal(err)
		}
		return opened
	}
	r = open()
	dropped := withPassword(secondPassword)
	dropped.Label = "dropped"
	change(r.AddSlot(t.Context(), dropped))
	change(r.Rotate(t.Context(), repo.RotateOptions{}))
	fillGolden(t, r, 2)
	code := change(r.AddSlot(t.Context(), repo.NewSlot{Label: "paper", RecoveryCode: true, KDF: repotest.FastKDF()})).RecoveryCode
	change(r.AddSlot(t.Context(), repo.NewSlot{Label: "vault", VaultKey: vaultKey}))
	change(r.Rotate(t.Context(), repo.RotateOptions{
		Revoke: true, Passwords: []string{repotest.Password, code}, Drop: []string{"dropped"}, KDF: repotest.FastKDF(),
	}))
	fillGolden(t, r, 2)
	return &golden{Password: repotest.Password, Also: []string{code}, Closed: []string{secondPassword}}
}

// fillGolden fills a repository with some of everything that this version writes: two machines, one of them with a disk that
// does not end at a chunk and grows, increments enough for a checkpoint, clears, duplicates, a session that was given up, an
// index that was rebuilt.
func fillGolden(t *testing.T, r *repo.Repository, rounds int) {
	t.Helper()
	rnd := newRand(2026)
	a, b := repotest.NewDisk(70*chunkSize+512), repotest.NewDisk(3*chunkSize)
	a.Write(0, bytes.Repeat([]byte("holdfast"), 40<<10))
	a.Write(60*chunkSize+100, randomBytes(rnd, 3000))
	b.Write(0, bytes.Repeat([]byte("holdfast"), 20<<10)) // chunks of the other machine
	parents := map[string]*holdfast.Point{}
	for round := range rounds {
		for vm, d := range map[string]*repotest.Disk{"/subscriptions/s/resourceGroups/g/providers/Microsoft.Compute/virtualMachines/alpha": a, "beta": b} {
			if vm == "beta" && round%8 != 0 {
				continue
			}
			p := mustBackup(t, r, vm, d, parents[vm])
			parents[vm] = &p
			if err := r.Settle(t.Context(), p.Session); err != nil {
				t.Fatal(err)
			}
		}
		a.Write(rnd.IntN(70)*chunkSize, randomBytes(rnd, 100))
		b.Write(rnd.IntN(3)*chunkSize, []byte{byte(round + 1)})
		switch round {
		case 1:
			giveUp(t, r)
		case 3:
			a.Clear(0, 2*chunkSize)
		case 5:
			a.Grow(len(a.Data) + 5*chunkSize)
		case 7:
			if _, err := r.RebuildIndex(t.Context(), nil); err != nil {
				t.Fatal(err)
			}
		}
	}
}
