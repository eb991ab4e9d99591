package e2e

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// folderBytes returns the bytes of all files below a folder.
func folderBytes(t *testing.T, folder string) (total int64) {
	t.Helper()
	must(t, filepath.WalkDir(folder, func(_ string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		info, err := entry.Info()
		if err == nil {
			total += info.Size()
		}
		return err
	}))
	return total
}

// Restore points of an image are removed, a collection frees what they alone needed, and the others export equal; a dry run of either
// changes nothing and tells what follows.
func TestCollect(t *testing.T) {
	t.Parallel()
	w := newWorld(t, badEstate)
	w.initRepository()
	image := filepath.Join(w.dir, "disk.img")
	content := noise(11, 12<<20+512)
	var points []string
	var contents [][]byte
	for round := range 4 {
		must(t, os.WriteFile(image, content, 0o600))
		points = append(points, w.object("image", "backup", "--repo", w.repo, "--name", "disk", image)["point"].(string))
		contents = append(contents, bytes.Clone(content))
		copy(content[round*3<<20:], noise(uint64(20+round), 2<<20))
	}
	before := folderBytes(t, w.repo)

	dry := w.object("repo", "remove", "--repo", w.repo, "--point", points[0], "--point", points[1], "--dry-run")
	frees := int64(dry["freesBytes"].(float64))
	if dry["dryRun"] != true || frees < 3<<20 || frees > 5<<20 {
		t.Errorf("a dry run of the removal says %v", dry)
	}
	w.mustRefuse(refusal{3, "notFound", "point", []string{"1999", "repo points"}}, "repo", "remove", "--repo", w.repo, "--point", points[0]+",1999")
	if removed := w.object("repo", "remove", "--repo", w.repo, "--point", points[0]+","+points[1])["points"].([]any); len(removed) != 2 {
		t.Errorf("removed %v", removed)
	}
	w.mustRefuse(refusal{3, "notFound", "point", []string{points[0]}}, "repo", "remove", "--repo", w.repo, "--point", points[0])
	w.mustRefuse(refusal{2, "invalid", "give-up-after", []string{"negative"}}, "repo", "collect", "--repo", w.repo, "--give-up-after", "-1h")

	removed := folderBytes(t, w.repo)
	plan := w.object("repo", "collect", "--repo", w.repo, "--dry-run")
	if plan["dryRun"] != true || plan["freedBytes"].(float64) < 3<<20 || folderBytes(t, w.repo) != removed {
		t.Errorf("a dry run of the collection says %v", plan)
	}
	done := w.object("repo", "collect", "--repo", w.repo)
	after := folderBytes(t, w.repo)
	freed := int64(done["freedBytes"].(float64))
	if done["dryRun"] != false || freed < 3<<20 || before-after < freed-256<<10 || done["points"] != 2.0 || len(done["fragmentation"].([]any)) != 1 {
		t.Errorf("of %d bytes %d are left; the collection says %v", before, after, done)
	}
	if report := w.object("repo", "verify", "--repo", w.repo); report["ok"] != true || report["level"] != 2.0 {
		t.Errorf("verify: %v", report)
	}
	for i := 2; i < 4; i++ {
		out := filepath.Join(w.dir, points[i])
		w.object("repo", "export", "--repo", w.repo, "--point", points[i], "--disk", "os", "--out", out)
		got, err := os.ReadFile(out)
		must(t, err)
		if !bytes.Equal(got, contents[i]) {
			t.Errorf("restore point %s is exported with other bytes", points[i])
		}
	}
	told := w.run("repo", "collect", "--repo", w.repo)
	if !strings.Contains(string(told.out), "restore point") || told.code != 0 {
		t.Errorf("a person is told %q", string(told.out))
	}
}

// Where the file system has no files without a name, a backup that is killed leaves half-written ones, which are no objects. A collection
// counts and removes those that are old, and leaves alone what may still be written.
func TestCollect_HalfWrittenFiles(t *testing.T) {
	t.Parallel()
	w := newWorld(t, contractEstate)
	w.initRepository()
	old, young := filepath.Join(w.repo, "keys", ".tmp-old"), filepath.Join(w.repo, "log", ".tmp-young")
	for _, name := range []string{old, young} {
		must(t, os.WriteFile(name, noise(1, 5000), 0o600))
	}
	before := time.Now().Add(-25 * time.Hour)
	must(t, os.Chtimes(old, before, before))
	for _, flags := range [][]string{{"--dry-run"}, nil} {
		result := w.object(append([]string{"repo", "collect", "--repo", w.repo}, flags...)...)
		if result["freedObjects"] != 1.0 || result["freedBytes"] != 5000.0 {
			t.Errorf("%v: %v", flags, result)
		}
		_, err := os.Stat(old)
		if gone := errors.Is(err, fs.ErrNotExist); gone != (flags == nil) {
			t.Errorf("%v: the old one: %v", flags, err)
		}
	}
	if _, err := os.Stat(young); err != nil {
		t.Error(err)
	}
}
