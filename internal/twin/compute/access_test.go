package compute_test

import (
	"bytes"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/to"
	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/compute/armcompute/v8"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/pageblob"

	"github.com/holdfast-backup/holdfast/internal/clock"
	"github.com/holdfast-backup/holdfast/internal/twin/estate"
)

// TestBeginAccess_RefusesWhatThePlatformRefuses: every rule about the request and the resource has a row.
func TestBeginAccess_RefusesWhatThePlatformRefuses(t *testing.T) {
	e := plainEstate()
	e.VirtualMachines[0].DataDisks = append(e.VirtualMachines[0].DataDisks, estate.Disk{LUN: 1, Name: "coarse", SizeGiB: 4, SKU: "PremiumV2_LRS", Caching: "None", LogicalSectorBytes: 4096})
	w := newWorld(t, clock.System{}, e)
	w.compute.SetCopyTime(0)
	closed := func(name string, change func(*armcompute.SnapshotProperties)) {
		snapshot := snapshotOf(dataDisk)
		change(snapshot.Properties)
		must(w.makeSnapshot(name, snapshot))(t)
	}
	closed("open", func(*armcompute.SnapshotProperties) {})
	closed("denied", func(p *armcompute.SnapshotProperties) {
		p.NetworkAccessPolicy = to.Ptr(armcompute.NetworkAccessPolicyDenyAll)
	})
	closed("private", func(p *armcompute.SnapshotProperties) {
		p.NetworkAccessPolicy, p.DiskAccessID = to.Ptr(armcompute.NetworkAccessPolicyAllowPrivate), to.Ptr(diskPrefix+"x")
	})
	closed("unreachable", func(p *armcompute.SnapshotProperties) {
		p.PublicNetworkAccess = to.Ptr(armcompute.PublicNetworkAccessDisabled)
	})
	must(w.makeSnapshot("coarse", snapshotOf(diskPrefix+"coarse")))(t)
	good := `{"access":"Read","durationInSeconds":3600}`
	for name, row := range map[string]struct {
		snapshot, body string
		status         int
		code           string
	}{
		"too long":             {"open", `{"access":"Read","durationInSeconds":5184001}`, 400, "InvalidParameter"},
		"no time":              {"open", `{"access":"Read","durationInSeconds":0}`, 400, "InvalidParameter"},
		"no duration":          {"open", `{"access":"Read"}`, 400, "InvalidParameter"},
		"no access":            {"open", `{"durationInSeconds":60}`, 400, "InvalidParameter"},
		"access None":          {"open", `{"access":"None","durationInSeconds":60}`, 400, "InvalidParameter"},
		"no body":              {"open", ``, 400, "InvalidParameter"},
		"writing a snapshot":   {"open", `{"access":"Write","durationInSeconds":60}`, 409, "OperationNotAllowed"},
		"guest state":          {"open", `{"access":"Read","durationInSeconds":60,"getSecureVMGuestStateSAS":true}`, 400, "InvalidParameter"},
		"VHDX of 512":          {"open", `{"access":"Read","durationInSeconds":60,"fileFormat":"VHDX"}`, 400, "InvalidParameter"},
		"DenyAll":              {"denied", good, 403, "NetworkAccessPolicyDenied"},
		"AllowPrivate":         {"private", good, 403, "NetworkAccessPolicyDenied"},
		"public access off":    {"unreachable", good, 403, "PublicNetworkAccessDisabled"},
		"VHD of 4096":          {"coarse", good, 400, "InvalidParameter"},
		"a snapshot not there": {"none", good, 404, "ResourceNotFound"},
	} {
		status, _, body := w.raw(http.MethodPost, snapPrefix+row.snapshot+"/beginGetAccess"+diskVersion, row.body)
		if status != row.status || body.Text("error.code") != row.code {
			t.Errorf("%s: %d %v, want %d %s", name, status, body, row.status, row.code)
		}
	}
	status, header, _ := w.raw(http.MethodPost, snapPrefix+"open/BEGINGETACCESS"+diskVersion, `{"access":"Read","durationInSeconds":5184000}`)
	if status != http.StatusAccepted {
		t.Fatalf("60 days: %d", status)
	}
	if outcome := w.settled(header); !strings.HasPrefix(outcome.Text("properties.output.accessSAS"), w.data.URL+"/md-") {
		t.Fatalf("outcome %v", outcome)
	}
	monitor := strings.TrimPrefix(header.Get("Location"), w.server.URL)
	if status, _, body := w.raw(http.MethodGet, monitor, ""); status != http.StatusOK || body.Text("accessSAS") == "" {
		t.Fatalf("Location answers %d %v", status, body)
	}
}

// TestBeginAccess_FivePerFamily: the sixth snapshot of a family waits for a place; other families and repeats do not.
func TestBeginAccess_FivePerFamily(t *testing.T) {
	w := newWorld(t, clock.System{}, plainEstate())
	w.compute.SetSnapshotRate(false)
	for i := range 6 {
		must(w.makeSnapshot(fmt.Sprintf("s%d", i), snapshotOf(dataDisk)))(t)
	}
	var first string
	for i := range 5 {
		sas := must(w.grantSnapshot(fmt.Sprintf("s%d", i)))(t)
		if i == 0 {
			first = sas
		}
	}
	if again := must(w.grantSnapshot("s0"))(t); again != first {
		t.Fatal("an active SAS was not repeated")
	}
	_, err := w.grantSnapshot("s5")
	wantCode(t, err, "OperationNotAllowed")
	if status, _, _ := w.raw(http.MethodPost, snapPrefix+"s5/beginGetAccess"+diskVersion, `{"access":"Read","durationInSeconds":60}`); status != http.StatusConflict {
		t.Fatalf("the sixth is accepted (%d) to fail later only", status)
	}
	must(w.makeSnapshot("other", snapshotOf(diskPrefix+"web-1-os")))(t)
	must(w.grantSnapshot("other"))(t)
	w.revokeSnapshot("s3")
	must(w.grantSnapshot("s5"))(t)
}

// TestSnapshot_ActiveSASBlocksDeletion until it is revoked; a revoked SAS reads nothing.
func TestSnapshot_ActiveSASBlocksDeletion(t *testing.T) {
	w := newWorld(t, clock.System{}, plainEstate())
	must(w.makeSnapshot("s", snapshotOf(dataDisk)))(t)
	sas := must(w.grantSnapshot("s"))(t)
	resources := must(w.compute.Resources())(t)
	for _, r := range resources {
		if want := map[bool]int{true: 1}[r.ID == snapPrefix+"s"]; r.ActiveSAS != want {
			t.Errorf("%s has %d active SAS", r.ID, r.ActiveSAS)
		}
	}
	_, err := w.snapshots.BeginDelete(t.Context(), group, "s", nil)
	wantCode(t, err, "OperationNotAllowed")
	snapshot := must(w.snapshots.Get(t.Context(), group, "s", nil))(t)
	if *snapshot.Properties.DiskState != armcompute.DiskStateActiveSAS {
		t.Fatalf("state %s", *snapshot.Properties.DiskState)
	}
	w.revokeSnapshot("s")
	if _, err := url.Parse(sas); err != nil {
		t.Fatal(err)
	}
	response := must(http.Head(sas))(t)
	_ = response.Body.Close()
	if response.StatusCode != http.StatusForbidden {
		t.Fatalf("a revoked SAS answers %d", response.StatusCode)
	}
	poller, err := w.snapshots.BeginDelete(t.Context(), group, "s", nil)
	done(t, poller, err)
	if n := len(w.volumes.List()); n != 2 {
		t.Fatalf("%d volumes after the deletion", n)
	}
}

// TestSnapshot_ExpiredSASFreesDeletion: a SAS that ran out blocks nothing.
func TestSnapshot_ExpiredSASFreesDeletion(t *testing.T) {
	manual := clock.NewManual(time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC))
	w := newWorld(t, manual, plainEstate())
	w.putRaw(manual, snapPrefix+"s", snapshotBody(dataDisk, ""))
	_, header, _ := w.raw(http.MethodPost, snapPrefix+"s/beginGetAccess"+diskVersion, `{"access":"Read","durationInSeconds":60}`)
	manual.Advance(time.Second)
	w.settled(header)
	if status, _, _ := w.raw(http.MethodDelete, snapPrefix+"s"+diskVersion, ""); status != http.StatusConflict {
		t.Fatalf("deletion under a SAS: %d", status)
	}
	manual.Advance(61 * time.Second)
	if status, _, body := w.raw(http.MethodDelete, snapPrefix+"s"+diskVersion, ""); status != http.StatusAccepted {
		t.Fatalf("deletion after its end: %d %v", status, body)
	}
}

// TestDiff_WithinAFamilyOnly: two snapshots of one family show what changed, across the 4 TiB line the diff is refused.
func TestDiff_WithinAFamilyOnly(t *testing.T) {
	w := newWorld(t, clock.System{}, plainEstate())
	volume := must(w.compute.DiskVolume(dataDisk))(t)
	must(w.makeSnapshot("s0", snapshotOf(dataDisk)))(t)
	must(w.volumes.WriteAt(volume, bytes.Repeat([]byte{7}, 4096), 8192))(t)
	must(w.makeSnapshot("s1", snapshotOf(dataDisk)))(t)
	if err := w.compute.ResizeDisk(dataDisk, 5000); err != nil {
		t.Fatal(err)
	}
	must(w.makeSnapshot("s2", snapshotOf(dataDisk)))(t)
	sas := map[string]string{}
	for _, name := range []string{"s0", "s1", "s2"} {
		sas[name] = must(w.grantSnapshot(name))(t)
	}
	diff := func(newer, older string) (*pageblob.PageList, error) {
		page := must(pageblob.NewClientWithNoCredential(sas[newer], pinned()))(t)
		options := &pageblob.GetPageRangesDiffOptions{PrevSnapshotURL: to.Ptr(sas[older])}
		answer, err := page.NewGetPageRangesDiffPager(options).NextPage(t.Context())
		return &answer.PageList, err
	}
	changed := must(diff("s1", "s0"))(t)
	if len(changed.PageRange) != 1 || *changed.PageRange[0].Start != 8192 || *changed.PageRange[0].End != 12287 {
		t.Fatalf("changed %+v", changed.PageRange)
	}
	if across, err := diff("s2", "s1"); err == nil {
		t.Fatalf("a diff across 4 TiB gives %d ranges", len(across.PageRange))
	}
}
