package e2e

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/streaming"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/to"
	azblobs "github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/blob"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/bloberror"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/container"
)

const (
	lockedRepository = "azblob://shopvault/locked/safe"
	locksFields      = "point string horizon string objects list missing list"
	lockFields       = "name string until string"
)

// locks returns the horizon of a point, the zero time for none.
func (w *world) locks(repository, point string, variables ...string) time.Time {
	w.t.Helper()
	a := w.runWith(variables, "repo", "locks", "--repo", repository, "--point", point, "--json")
	var result struct {
		Horizon time.Time `json:"horizon"`
		Objects []struct {
			Name  string     `json:"name"`
			Until *time.Time `json:"until"`
		} `json:"objects"`
	}
	w.decode(a, &result)
	if a.code != 0 || len(result.Objects) < 8 {
		w.t.Fatalf("repo locks: exit %d, %s%s", a.code, a.out, a.errors)
	}
	for _, o := range result.Objects {
		if o.Until == nil && !result.Horizon.IsZero() || o.Until != nil && o.Until.Before(result.Horizon) {
			w.t.Errorf("the horizon is %s, and %s is locked until %v", result.Horizon, o.Name, o.Until)
		}
	}
	return result.Horizon
}

// A person locks restore points of images and machines, sees how long they stay, and is refused where that cannot be. Somebody
// with all rights on the container then deletes, overwrites and locks his garbage: what was locked is listed, verified and
// exported unaided, and no horizon is lower; of what was not locked, verification says that it is lost.
func TestLocks(t *testing.T) {
	t.Parallel()
	w := newWorld(t, contractEstate)
	w.write("small-1-os", 1<<20, noise(7, 400<<10))
	first := filepath.Join(t.TempDir(), "first.img")
	must(t, os.WriteFile(first, noise(5, 700<<10), 0o600))
	second := filepath.Join(t.TempDir(), "second.img")
	must(t, os.WriteFile(second, append(noise(5, 600<<10), noise(6, 100<<10)...), 0o600))

	w.refuseLocks(first)
	w.initRepositoryAt(lockedRepository)
	loose := w.object("image", "backup", "--repo", lockedRepository, "--name", "loose", first)
	if h := w.locks(lockedRepository, loose["point"].(string)); !h.IsZero() || loose["lockedUntil"] != nil {
		t.Errorf("without locks: horizon %s, %v", h, loose)
	}
	if people := w.run("repo", "locks", "--repo", lockedRepository, "--point", loose["point"].(string)); !strings.Contains(string(people.out), "is not locked") {
		t.Errorf("a point without locks is told as\n%s", people.out)
	}
	before := w.lockPoints(first, second)
	w.attack(lockedRepository)
	w.mustStandAttacked(before, map[string]string{"image": second, "vm": w.snapshot("small-1-os")}, loose["point"].(string))
}

// refuseLocks asks for locks that cannot be had.
func (w *world) refuseLocks(file string) {
	t := w.t
	t.Helper()
	for _, repository := range []string{filepath.Join(t.TempDir(), "folder"), "azblob://shopvault/backups/loose"} {
		w.initRepositoryAt(repository)
		refused := refusal{2, "invalid", "lock-for", []string{"cannot lock", "version-level immutability"}}
		w.mustRefuse(refused, "image", "backup", "--repo", repository, "--name", "disk", "--lock-for", "30d", file)
		w.mustNotChange(func() {
			w.mustRefuse(refused, "backup", "--repo", repository, "--vm", vmID("small-1"), "--lock-for", "30d")
		})
		if points, _ := w.value("repo", "points", "--repo", repository).([]any); len(points) != 0 {
			t.Errorf("a refused backup made %v", points)
		}
	}
	for _, wrong := range []string{"30", "0d", "99999d"} {
		w.mustRefuse(refusal{2, "invalid", "lock-for", []string{wrong, "from 1d"}}, "image", "backup", "--repo", "azblob://shopvault/backups/loose", "--name", "disk", "--lock-for", wrong, file)
	}
}

// lockPoints makes locked points and returns their horizons.
func (w *world) lockPoints(first, second string) map[string]time.Time {
	t := w.t
	t.Helper()
	points := []map[string]any{
		w.object("image", "backup", "--repo", lockedRepository, "--name", "disk", "--lock-for", "30d", first),
		w.object("image", "backup", "--repo", lockedRepository, "--name", "disk", "--lock-for", "30d", second),
		w.object("backup", "--repo", lockedRepository, "--vm", vmID("small-1"), "--lock-for", "400d"),
	}
	before := map[string]time.Time{}
	for i, p := range points {
		until, err := time.Parse(time.RFC3339, p["lockedUntil"].(string))
		must(t, err)
		point := p["point"].(string)
		before[point] = w.locks(lockedRepository, point)
		if before[point].Before(until) || until.Before(time.Now().AddDate(0, 0, 29)) || i == 2 && until.Before(time.Now().AddDate(0, 0, 399)) {
			t.Errorf("%v is promised until %s, and its horizon is %s", p, until, before[point])
		}
		if keyless := w.locks(lockedRepository, point, "HOLDFAST_REPO_PASSWORD="); !keyless.Equal(before[point]) {
			t.Errorf("without a password the horizon is %s, with one %s", keyless, before[point])
		}
	}
	shown := mustHave(t, "repo locks", w.value("repo", "locks", "--repo", lockedRepository, "--point", points[0]["point"].(string)), locksFields)
	for _, o := range listOf(t, shown, "objects", 8) {
		mustHave(t, "an object of repo locks", o, lockFields)
	}
	return before
}

// attack does to every blob of a repository what the data plane allows: delete, overwrite, lock the garbage, delete each version.
func (w *world) attack(repository string) {
	t := w.t
	t.Helper()
	client, err := w.client().ContainerClient("shopvault", "locked", nil)
	must(t, err)
	refused := 0
	for i, name := range blobNames(t, client, "safe/", false) {
		b := client.NewBlockBlobClient(name)
		if i%2 == 0 {
			_, err := b.Delete(t.Context(), nil)
			must(t, err)
		}
		if i%3 != 0 || i%2 != 0 { // nothing stays untouched, whatever the names are
			_, err := b.Upload(t.Context(), streaming.NopCloser(bytes.NewReader([]byte("garbage"))), nil)
			must(t, err)
			_, err = b.SetImmutabilityPolicy(t.Context(), time.Now().AddDate(100, 0, 0), &azblobs.SetImmutabilityPolicyOptions{Mode: to.Ptr(azblobs.ImmutabilityPolicySettingLocked)})
			must(t, err)
		}
	}
	for _, version := range blobNames(t, client, "safe/", true) {
		name, id, _ := strings.Cut(version, "?")
		b, err := client.NewBlobClient(name).WithVersionID(id)
		must(t, err)
		_, err = b.Delete(t.Context(), nil)
		if bloberror.HasCode(err, bloberror.BlobImmutableDueToPolicy) {
			refused++
			continue
		}
		if bloberror.HasCode(err, "OperationNotAllowedOnRootBlob") { // the current one is not deleted by its id
			continue
		}
		must(t, err)
	}
	if refused < 20 {
		t.Fatalf("only %d versions are protected", refused)
	}
}

// blobNames lists blobs, or name?version of all versions.
func blobNames(t *testing.T, client *container.Client, prefix string, versions bool) []string {
	t.Helper()
	var names []string
	pager := client.NewListBlobsFlatPager(&container.ListBlobsFlatOptions{Prefix: &prefix, Include: container.ListBlobsInclude{Versions: versions}})
	for pager.More() {
		page, err := pager.NextPage(t.Context())
		if err != nil {
			t.Fatal(errors.Join(err))
		}
		for _, item := range page.Segment.BlobItems {
			name := *item.Name
			if versions {
				name += "?" + *item.VersionID
			}
			names = append(names, name)
		}
	}
	return names
}

// mustStandAttacked lists, verifies and exports the locked points, and compares their horizons. One point was not locked.
func (w *world) mustStandAttacked(before map[string]time.Time, content map[string]string, loose string) {
	t := w.t
	t.Helper()
	var listed []string
	newest := "" // image of the two: the list is in order of time, which ids made in one second are not
	for _, p := range w.value("repo", "points", "--repo", lockedRepository).([]any) {
		point := p.(map[string]any)
		id := point["id"].(string)
		listed = append(listed, id)
		if point["name"] == "small-1" {
			w.mustExport(id, "os", content["vm"], lockedRepository)
		}
		if point["name"] == "disk" {
			newest = id
		}
	}
	for id, horizon := range before {
		if !slices.Contains(listed, id) {
			t.Errorf("%s is not listed", id)
		}
		for _, variables := range [][]string{nil, {"HOLDFAST_REPO_PASSWORD="}} {
			if now := w.locks(lockedRepository, id, variables...); now.Before(horizon) {
				t.Errorf("the horizon of %s was %s and is %s", id, horizon, now)
			}
		}
	}
	w.mustExport(newest, "os", content["image"], lockedRepository)
	for level, variables := range map[string][]string{"1": {"HOLDFAST_REPO_PASSWORD="}, "2": nil} {
		a := w.runWith(variables, "repo", "verify", "--repo", lockedRepository, "--level", level, "--json")
		report, _ := oneValue(t, a).(map[string]any)
		hit := listOf(t, report, "points", 1)
		if a.code != 4 || len(hit) != 1 || hit[0] != loose || len(listOf(t, report, "objects", 1)) > 4 || len(listOf(t, report, "shadowedObjects", 10)) == 0 {
			t.Errorf("verify at level %s: exit %d, %s", level, a.code, a.out)
		}
	}
	if people := w.run("repo", "verify", "--repo", lockedRepository); !strings.Contains(string(people.out), "Somebody overwrote or deleted") {
		t.Errorf("verify tells of shadows as\n%s", people.out)
	}
}
