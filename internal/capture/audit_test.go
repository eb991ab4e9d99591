package capture_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/azure/azuretest"
	"github.com/holdfast-backup/holdfast/internal/capture"
	"github.com/holdfast-backup/holdfast/internal/clock"
	"github.com/holdfast-backup/holdfast/internal/repo"
	"github.com/holdfast-backup/holdfast/internal/repo/repotest"
	"github.com/holdfast-backup/holdfast/internal/twin/fault"
)

// lie makes every comparison of snapshots leave out a part of the disk.
func (w *world) lie(offset, length int64) (behave func()) {
	return w.Misbehave(w.t, fault.Rule{On: fault.Disk, Query: "*comp=pagelist*", Fault: fault.OmitRanges, Offset: offset, Length: length})
}

// filled is a machine whose disk holds so many chunks at scattered places.
func filled(t *testing.T, chunks int) *world {
	t.Helper()
	w := newWorld(t, tiny(), azuretest.Options{})
	for n := range chunks {
		w.Write(t, w.disks[0], noise(uint64(n), chunkBytes), int64(3*n)*chunkBytes)
	}
	return w
}

var everything = capture.Options{Audit: capture.Audit{Share: 1}}

// A change list that lies about one range is found out at once when all is audited: the person is told since when, the point is shown as
// suspect, and the next backup reads the disk in full, after which all is well. What is audited is not counted as read.
func TestAudit_LieIsFound(t *testing.T) {
	w := filled(t, 20)
	first := w.backup(capture.Options{})
	w.Write(t, w.disks[0], noise(100, 4096), 5*3*chunkBytes)
	honest := w.backup(everything)
	if d := honest.Disks[0]; d.SuspectSince != "" || d.AuditedBytes != 19*chunkBytes || d.ReadBytes != chunkBytes || honest.AuditedBytes != d.AuditedBytes {
		t.Fatalf("an honest change list: %+v", honest)
	}
	w.check(honest)

	const place = 7 * 3 * chunkBytes
	w.Write(t, w.disks[0], noise(101, 512), place+1024)
	w.Write(t, w.disks[0], noise(102, 512), 0)
	behave := w.lie(place, chunkBytes)
	result := w.backup(everything)
	behave()
	d := result.Disks[0]
	if d.SuspectSince != honest.Point || d.ReadBytes != chunkBytes || d.Full || !warned(result, "is wrong") || !warned(result, string(honest.Point)) {
		t.Fatalf("the lie: %+v", result)
	}
	w.mustBeSuspect(map[holdfast.PointID]bool{honest.Point: true, result.Point: true})

	repaired := w.backup(capture.Options{})
	if d := repaired.Disks[0]; !d.Full || d.Reason != holdfast.FullSuspect {
		t.Errorf("after the lie: %+v", repaired)
	}
	w.check(repaired)
	w.mustBeSuspect(map[holdfast.PointID]bool{honest.Point: true, result.Point: true})
	after := w.backup(everything)
	if d := after.Disks[0]; d.Full || d.SuspectSince != "" || d.ReadBytes != 0 {
		t.Errorf("after the full read: %+v", after)
	}
	w.check(after)
	_ = first
}

func warned(result capture.Result, words string) bool {
	return strings.Contains(strings.ToLower(strings.Join(result.Warnings, "\n")), strings.ToLower(words))
}

// mustBeSuspect fails unless exactly these points are shown as suspect.
func (w *world) mustBeSuspect(want map[holdfast.PointID]bool) {
	w.t.Helper()
	points, err := repotest.Open(w.t, w.store).Points()
	if err != nil {
		w.t.Fatal(err)
	}
	for _, p := range points {
		if (len(p.Suspect) > 0) != want[p.ID] {
			w.t.Errorf("point %s: suspect disks %v", p.ID, p.Suspect)
		}
	}
}

// What was written where nothing was before, and left out of the list, is found as well: the snapshot says that it holds data there.
func TestAudit_LieAboutNewData(t *testing.T) {
	w := filled(t, 5)
	w.backup(capture.Options{})
	const place = 40 * 3 * chunkBytes
	w.Write(t, w.disks[0], noise(101, chunkBytes), place)
	behave := w.lie(place, chunkBytes)
	result := w.backup(everything)
	behave()
	if result.Disks[0].SuspectSince != result.Point {
		t.Errorf("%+v", result)
	}
}

// Whatever the place of the lie, thirty audits of a thirtieth find it, since they go round the disk; each reads its share and no more.
func TestAudit_Rotates(t *testing.T) {
	const chunks = 60
	for _, place := range []int64{0, 17, chunks - 1} {
		w := filled(t, chunks)
		w.backup(capture.Options{})
		w.Write(t, w.disks[0], noise(101, 512), place*3*chunkBytes)
		behave := w.lie(place*3*chunkBytes, chunkBytes)
		w.backup(capture.Options{Audit: capture.Audit{Off: true}})
		behave()
		found, audited := 0, int64(0)
		for n := 1; n <= 30 && found == 0; n++ {
			result := w.backup(capture.Options{Audit: capture.Audit{Share: 1.0 / 30}})
			audited += result.AuditedBytes
			if result.AuditedBytes > 3*chunkBytes || result.ReadBytes != 0 {
				t.Fatalf("audit %d: %+v", n, result)
			}
			if result.Disks[0].SuspectSince != "" {
				found = n
			}
		}
		if found == 0 {
			t.Errorf("a lie about chunk %d was not found; %d bytes were read", place, audited)
		}
	}
}

// By default a thirtieth is read for each day since the last audit, added up until it makes a chunk, at most a quarter.
func TestAudit_ByTime(t *testing.T) {
	w := filled(t, 60)
	at := clock.NewManual(time.Now())
	run := func(o capture.Options) capture.Result {
		t.Helper()
		r, err := repo.Open(t.Context(), w.store, repo.OpenOptions{Password: repotest.Password, Clock: at})
		if err != nil {
			t.Fatal(err)
		}
		flow, err := capture.New(capture.Config{Source: w.Client(t), Repository: r, Clock: at, PollEvery: time.Millisecond})
		if err != nil {
			t.Fatal(err)
		}
		result, err := flow.Run(context.WithoutCancel(t.Context()), w.vm, o)
		if err != nil {
			t.Fatal(err)
		}
		return result
	}
	run(capture.Options{})
	for _, step := range []struct {
		hours  time.Duration
		chunks int64
	}{{0, 0}, {6, 0}, {9, 2}, {24, 2}, {48, 4}, {24 * 30, 15}, {1, 0}} {
		at.Advance(step.hours * time.Hour)
		if result := run(capture.Options{}); result.AuditedBytes != step.chunks*chunkBytes {
			t.Errorf("after %d more hours %d chunks were audited, want %d", step.hours, result.AuditedBytes/chunkBytes, step.chunks)
		}
	}
	at.Advance(24 * time.Hour)
	if result := run(capture.Options{Audit: capture.Audit{Off: true}}); result.AuditedBytes != 0 {
		t.Errorf("%d bytes were audited although it was off", result.AuditedBytes)
	}
}

// The process ends after any of its outside calls: the restore points are whole, the next backup puts the cloud in order and audits again.
func TestAudit_EndsAnywhere(t *testing.T) {
	w := filled(t, 4)
	w.backup(capture.Options{})
	whole := azuretest.NewLife(1 << 20)
	if _, err := w.process(t.Context(), whole, everything); err != nil {
		t.Fatal(err)
	}
	for last := 1; last < whole.Calls(); last++ {
		if testing.Short() && last%5 > 0 {
			continue
		}
		life := azuretest.NewLife(last)
		_, _ = w.process(t.Context(), life, everything) // what the dead process would have said does not matter
		result := w.backup(everything)
		w.check(result)
		if result.AuditedBytes != 4*chunkBytes || result.Disks[0].SuspectSince != "" {
			t.Fatalf("after %d calls: %+v", last, result)
		}
	}
}
