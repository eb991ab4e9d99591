package e2e

import (
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-backup/holdfast/internal/twin/fault"
)

// verified is the result of repo verify, as far as these tests look.
type verified struct {
	OK      bool
	Level   int
	Objects []struct{ Name, Problem string }
	Points  []string
	VMs     []string
	Healed  []string
	Proof   struct {
		Recorded bool
		Reason   string
		Since    *time.Time
	}
	Share *struct {
		Plan struct {
			Ranges []struct{ From, To string }
			Due    struct{ Objects, Bytes, Requests int64 }
			Never  struct{ Objects int64 }
		}
		OverheadRequests int64
		Cost             float64
	}
}

// verify runs repo verify, which must end with that code.
func (w *world) verify(code int, args ...string) verified {
	w.t.Helper()
	a := w.run(append([]string{"repo", "verify", "--json", "--repo", w.repo}, args...)...)
	var v verified
	w.decode(a, &v)
	if a.code != code || v.OK != (code == 0) {
		w.t.Fatalf("repo verify: exit %d, want %d\n%s%s", a.code, code, a.out, a.errors)
	}
	return v
}

// pointState is a restore point as repo points shows it.
type pointState struct {
	ID       string
	Damaged  bool
	Suspect  []string
	ProvenAt *time.Time
}

func (w *world) points() map[string]pointState {
	w.t.Helper()
	var list []pointState
	w.do(&list, "repo", "points", "--repo", w.repo)
	points := map[string]pointState{}
	for _, p := range list {
		points[p.ID] = p
	}
	return points
}

// dataPacks returns the files of the data packs.
func (w *world) dataPacks() []string {
	w.t.Helper()
	files, err := filepath.Glob(filepath.Join(w.repo, "data", "*", "*"))
	must(w.t, err)
	return files
}

// A person finds a lost and a changed pack by verifying, sees which restore points are damaged and gets none of them unawares; the next
// backups heal them: of an image, which is read in full, and of a machine, of whose disk nothing but the lost parts is read again.
func TestDamage_FoundAndHealed(t *testing.T) {
	t.Parallel()
	w := newWorld(t, contractEstate)
	w.initRepository()
	file := filepath.Join(t.TempDir(), "disk.img")
	must(t, os.WriteFile(file, noise(5, 700<<10), 0o600))
	var image backupResult
	w.do(&image, "image", "backup", "--repo", w.repo, "--name", "router", file)
	ofImage := w.dataPacks()
	w.write("small-1-os", 1<<20, noise(7, 400<<10))
	first := w.backup("small-1")
	held := w.snapshot("small-1-os")
	if v := w.verify(0); !v.Proof.Recorded || v.Proof.Since == nil || v.Level != 2 {
		t.Errorf("a sound repository: %+v", v)
	}
	if p := w.points()[first.Point]; p.Damaged || p.ProvenAt == nil {
		t.Errorf("a sound point: %+v", p)
	}

	for _, pack := range w.dataPacks() {
		if slices.Contains(ofImage, pack) {
			must(t, os.Remove(pack))
			continue
		}
		data, err := os.ReadFile(pack)
		must(t, err)
		data[len(data)/2] ^= 1
		must(t, os.Chmod(pack, 0o600))
		must(t, os.WriteFile(pack, data, 0o600))
	}
	if v := w.verify(4); len(v.Objects) != 2 || len(v.Points) != 2 || len(v.VMs) != 2 || !v.Proof.Recorded {
		t.Errorf("a damaged repository: %+v", v)
	}
	for id, p := range w.points() {
		if !p.Damaged {
			t.Errorf("point %s is not shown as damaged", id)
		}
	}
	w.mustNotOffer(first.Point)

	w.do(nil, "image", "backup", "--repo", w.repo, "--name", "router", file)
	healing := w.backup("small-1")
	if d := healing.Disks[0]; d.Full || d.ReadBytes == 0 || d.ReadBytes > 1<<20 {
		t.Errorf("the healing backup: %+v", healing)
	}
	if v := w.verify(0); len(v.Healed) != 2 {
		t.Errorf("after healing: %+v", v)
	}
	if v := w.verify(0, "--level", "1"); len(v.Healed) != 2 {
		t.Errorf("after healing, level 1: %+v", v)
	}
	w.mustExport(first.Point, "os", held)
	w.mustExport(image.Point, "os", file)
	for id, p := range w.points() {
		if p.Damaged {
			t.Errorf("point %s is still shown as damaged", id)
		}
	}
}

// mustNotOffer fails unless a damaged point is refused with what can be done.
func (w *world) mustNotOffer(point string) {
	w.t.Helper()
	out := filepath.Join(w.t.TempDir(), "damaged.img")
	for _, args := range [][]string{
		{"restore", "vm", "--repo", w.repo, "--point", point, "--name", "small-1-again", "--resource-group", "shop", "--json"},
		{"repo", "export", "--repo", w.repo, "--point", point, "--disk", "os", "--out", out, "--json"},
	} {
		a := w.run(args...)
		var refused struct{ Error struct{ Kind, Hint string } }
		w.decode(a, &refused)
		if a.code != 4 || refused.Error.Kind != "corrupt" || !strings.Contains(refused.Error.Hint, "backup") {
			w.t.Errorf("%v: exit %d\n%s%s", args[:2], a.code, a.out, a.errors)
		}
	}
	if _, err := os.Stat(out); !os.IsNotExist(err) {
		w.t.Errorf("a file was left: %v", err)
	}
}

// The share of --within is planned, told with its cost, done and recorded; bad values are refused; without the password nothing is recorded, and
// the result says so.
func TestVerify_Within(t *testing.T) {
	t.Parallel()
	w := newWorld(t, contractEstate)
	w.initRepository()
	file := filepath.Join(t.TempDir(), "disk.img")
	must(t, os.WriteFile(file, noise(5, 700<<10), 0o600))
	w.do(nil, "image", "backup", "--repo", w.repo, "--name", "router", file)
	plan := w.verify(0, "--within", "1d", "--dry-run", "--read-price", "10000")
	s := plan.Share
	if s == nil || s.Plan.Due.Objects == 0 || s.Plan.Never.Objects != s.Plan.Due.Objects || s.OverheadRequests == 0 || plan.Proof.Recorded ||
		math.Abs(s.Cost-float64(s.Plan.Due.Requests+s.OverheadRequests)) > 0.001 {
		t.Errorf("planned: %+v", plan)
	}
	done := w.verify(0, "--within", "1d")
	if !done.Proof.Recorded || done.Proof.Since == nil || done.Share.Plan.Due != s.Plan.Due || done.Share.OverheadRequests != s.OverheadRequests {
		t.Errorf("done: %+v", done)
	}
	if v := w.verify(0, "--within", "30d"); len(v.Share.Plan.Ranges) > 1 || v.Share.Plan.Never.Objects != 0 {
		t.Errorf("right afterwards: %+v", v)
	}
	for flag, args := range map[string][]string{
		"within": {"--within", "soon"}, "dry-run": {"--dry-run"}, "level": {"--within", "2d", "--level", "2"},
	} {
		a := w.run(append([]string{"repo", "verify", "--json", "--repo", w.repo}, args...)...)
		var refused struct{ Error struct{ Kind, Field string } }
		w.decode(a, &refused)
		if a.code != 2 || refused.Error.Field != flag {
			t.Errorf("%v: exit %d, %s", args, a.code, a.out)
		}
	}
	a := w.runWith([]string{"HOLDFAST_REPO_PASSWORD="}, "repo", "verify", "--json", "--repo", w.repo)
	var v verified
	w.decode(a, &v)
	if a.code != 0 || v.Proof.Recorded || !strings.Contains(v.Proof.Reason, "password") {
		t.Errorf("without the password: %+v", v)
	}
}

// A change list of the twin leaves out what a guest wrote. The backup that checks it says so loudly, the points are shown as suspect, and the next
// backup reads the disk in full and is right.
func TestAudit_ThroughTheProgram(t *testing.T) {
	t.Parallel()
	w := newWorld(t, contractEstate)
	w.initRepository()
	w.write("small-1-os", 1<<20, noise(7, 2<<20))
	w.backup("small-1")
	w.write("small-1-os", 2<<20, noise(8, 4096))
	omit := fault.Rule{On: fault.Disk, Query: "*comp=pagelist*", Fault: fault.OmitRanges, Offset: 2 << 20, Length: 4096}
	must(t, w.guests.SetFaults(t.Context(), fault.Plan{Rules: []fault.Rule{omit}}))
	a := w.run("backup", "--repo", w.repo, "--vm", vmID("small-1"), "--audit", "100%", "--json")
	var lied struct {
		Point                   string
		AuditedBytes, ReadBytes int64
		Disks                   []struct{ SuspectSince string }
		Warnings                []string
	}
	w.decode(a, &lied)
	if a.code != 0 || lied.ReadBytes != 0 || lied.AuditedBytes < 2<<20 || lied.Disks[0].SuspectSince != lied.Point ||
		!strings.Contains(a.errors, "IS WRONG") || !strings.Contains(strings.Join(lied.Warnings, ""), lied.Point) {
		t.Fatalf("exit %d\n%s\n%s", a.code, a.out, a.errors)
	}
	if p := w.points()[lied.Point]; !slices.Equal(p.Suspect, []string{"os"}) {
		t.Errorf("the point is shown as %+v", p)
	}
	must(t, w.guests.SetFaults(t.Context(), fault.Plan{}))
	held := w.snapshot("small-1-os")
	full := w.backup("small-1")
	if d := full.Disks[0]; !d.Full || d.Reason != "suspect" {
		t.Errorf("the next backup: %+v", full)
	}
	w.mustExport(full.Point, "os", held)
	for _, bad := range []string{"0", "2", "1/0", "-5%", "much"} {
		if a := w.run("backup", "--repo", w.repo, "--vm", vmID("small-1"), "--audit", bad, "--json"); a.code != 2 {
			t.Errorf("--audit %s: exit %d", bad, a.code)
		}
	}
}

// What somebody put into the folder is named, whatever its name, in a way that does nothing to the terminal; a person is told to move it
// away, and not that something has to be brought back or is going to be healed.
func TestDamage_Foreign(t *testing.T) {
	t.Parallel()
	w := newWorld(t, contractEstate)
	w.initRepository()
	image := filepath.Join(t.TempDir(), "disk.img")
	must(t, os.WriteFile(image, noise(3, 300<<10), 0o600))
	w.object("image", "backup", "--repo", w.repo, "--name", "disk", image)
	for _, name := range []string{"data/x", "lists/\x1b[2J\nThe repository is sound"} {
		must(t, os.WriteFile(filepath.Join(w.repo, name), []byte("x"), 0o600))
	}
	a := w.run("repo", "verify", "--repo", w.repo)
	text := string(a.out) + a.errors
	if a.code != 4 || strings.Contains(text, "\x1b") || !strings.Contains(text, `lists/\x1b[2J\nThe repository is sound`) || !strings.Contains(text, "Move away") ||
		strings.Contains(text, "Bring") || strings.Contains(text, "next backup") {
		t.Errorf("exit %d: %s", a.code, text)
	}
	w.mustRefuse(refusal{2, "invalid", "point", []string{"--point is missing", "--help"}}, "repo", "remove", "--repo", filepath.Join(w.repo, "nowhere"))
}
