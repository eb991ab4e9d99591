package cost_test

import (
	"fmt"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/cost"
)

func here() cost.Place { return cost.Place{Subscription: "s", Region: "westeurope"} }

// By hand: 200 writes may be sent at once and 10 a second after that. 450 at once are 250 too many, which takes 25 seconds; after 24 of
// them there is still no room for ten more, after a minute there is.
func TestCalls_BucketByHand(t *testing.T) {
	c := cost.NewCalls()
	c.At(begin(), here(), cost.Writes, 200)
	if f := c.Report().Findings; len(f) != 0 {
		t.Fatalf("a full bucket is too much: %+v", f)
	}
	c = cost.NewCalls()
	c.At(begin(), here(), cost.Writes, 450)
	c.At(begin().Add(24*time.Second), here(), cost.Writes, 20)
	c.At(begin().Add(time.Minute), here(), cost.Writes, 10)
	f := c.Report().Findings
	if len(f) != 1 {
		t.Fatalf("%+v", f)
	}
	if f[0].Kind != cost.FindingThrottled || f[0].Class != cost.Writes || !f[0].First.Equal(begin()) || !f[0].Worst.Equal(begin()) ||
		f[0].Asked != 450 || f[0].Limit != 200 || f[0].WaitSeconds != 25 || f[0].Times != 2 || f[0].Region != "" {
		t.Errorf("%+v", f[0])
	}
	if want := "at 2026-03-01T00:00:00Z 450 writes are asked for in the subscription s, where 200 may be at once; the last of them waits 25s"; f[0].Message != want {
		t.Errorf("%s\nwant %s", f[0].Message, want)
	}
}

// Resource Manager counts a subscription wherever the resources are, the compute service counts each region.
func TestCalls_WhatIsCountedTogether(t *testing.T) {
	c := cost.NewCalls()
	for _, region := range []string{"westeurope", "northeurope"} {
		place := cost.Place{Subscription: "s", Region: region}
		c.At(begin(), place, cost.Reads, 200)
		c.At(begin(), place, cost.Polls, 14_000)
	}
	c.At(begin(), cost.Place{Subscription: "other", Region: "westeurope"}, cost.Reads, 200)
	r := c.Report()
	if len(r.Findings) != 1 || r.Findings[0].Class != cost.Reads || r.Findings[0].Subscription != "s" || r.Findings[0].Asked != 400 {
		t.Errorf("%+v", r.Findings)
	}
	if len(r.Busiest) != 4 {
		t.Errorf("%+v", r.Busiest)
	}
}

// The busiest minute and hour are those of the clock.
func TestCalls_Busiest(t *testing.T) {
	c := cost.NewCalls()
	for _, sent := range []struct {
		minutes float64
		n       int64
	}{{0, 5}, {0.5, 5}, {30, 8}, {59.9, 1}, {60, 4}, {60.5, 7}, {90, 3}} {
		c.At(begin().Add(time.Duration(sent.minutes*float64(time.Minute))), here(), cost.VMReads, sent.n)
	}
	b := c.Report().Busiest
	if len(b) != 1 || b[0].Total != 33 || b[0].MinuteCount != 11 || !b[0].Minute.Equal(begin().Add(time.Hour)) || b[0].HourCount != 19 || !b[0].Hour.Equal(begin()) ||
		b[0].Bucket != 24_000 || b[0].PerMinute != 8_000 {
		t.Errorf("%+v", b)
	}
}

// Against a bucket that is filled second by second: what is asked too much is found at the same instants.
func TestCalls_BucketModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := cost.NewCalls()
		level, now, times, most := 200, 0, int64(0), int64(0)
		for range rapid.IntRange(1, 30).Draw(t, "steps") {
			wait := rapid.IntRange(1, 60).Draw(t, "seconds")
			n := rapid.IntRange(0, 400).Draw(t, "requests")
			now += wait
			for range wait {
				level = min(200, level+10)
			}
			level -= n
			if n > 0 && level < 0 {
				times++
				most = max(most, int64(200-level))
			}
			c.At(begin().Add(time.Duration(now)*time.Second), here(), cost.Deletes, int64(n))
		}
		findings := c.Report().Findings
		if times == 0 && len(findings) == 0 {
			return
		}
		if len(findings) != 1 || findings[0].Times != times || findings[0].Asked != most {
			t.Fatalf("%+v, the model says %d times, %d at most", findings, times, most)
		}
	})
}

// kinds returns the kinds of findings, in order.
func kinds(r cost.CallReport) string {
	text := ""
	for _, f := range r.Findings {
		if f.Kind != cost.FindingThrottled {
			text += string(f.Kind) + " "
		}
	}
	return text
}

// The limits on snapshots of a disk: the number that is allowed is no finding, one more is.
func TestCalls_Snapshots(t *testing.T) {
	every := func(n int, apart time.Duration) func(*cost.Caller) {
		return func(v *cost.Caller) {
			for i := range n {
				v.Do(begin().Add(time.Duration(i)*apart), cost.WorkSnapshot)
			}
		}
	}
	for _, c := range []struct {
		what string
		do   func(*cost.Caller)
		want string
	}{
		{"seven in five minutes", every(7, 50*time.Second), ""},
		{"eight in five minutes", every(8, 42*time.Second), "snapshotRate "},
		{"eight in five minutes and a second", every(8, 43*time.Second), ""},
		{"five hundred", every(500, time.Hour), ""},
		{"five hundred and one", every(501, time.Hour), "snapshotsOfDisk "},
		{"a thousand less one, of which half went", func(v *cost.Caller) {
			for i := range 999 {
				v.Do(begin().Add(time.Duration(i)*time.Hour), cost.WorkSnapshot)
				if i%2 == 1 {
					v.Do(begin().Add(time.Duration(i)*time.Hour), cost.WorkRemove)
				}
			}
		}, ""},
		{"a base beside 499 others, which the next backup replaces", func(v *cost.Caller) {
			v.Do(begin(), cost.WorkFirstBackup)
			every(498, time.Hour)(v)
			v.Do(begin().AddDate(0, 2, 0), cost.WorkBackup)
		}, ""},
		{"one more, and for a moment there are two bases", func(v *cost.Caller) {
			v.Do(begin(), cost.WorkFirstBackup)
			every(499, time.Hour)(v)
			v.Do(begin().AddDate(0, 2, 0), cost.WorkBackup)
		}, "snapshotsOfDisk "},
		{"two repositories at once", func(v *cost.Caller) {
			v.Do(begin(), cost.WorkBackup)
			v.Do(begin(), cost.WorkBackup)
		}, ""},
		{"three repositories at once", func(v *cost.Caller) {
			for range 3 {
				v.Do(begin(), cost.WorkBackup)
			}
		}, "accessOfFamily "},
		{"three repositories one after another", func(v *cost.Caller) {
			for i := range 3 {
				v.Do(begin().Add(time.Duration(i)*time.Hour), cost.WorkBackup)
			}
		}, ""},
	} {
		calls := cost.NewCalls()
		c.do(calls.Machine(vm("a", 10)))
		if got := kinds(calls.Report()); got != c.want {
			t.Errorf("%s: %q, want %q", c.what, got, c.want)
		}
	}
}

// The limit on a region counts the disks of all machines there.
func TestCalls_SnapshotsOfRegion(t *testing.T) {
	calls := cost.NewCalls()
	for i := range 1001 {
		machine := vm(fmt.Sprint("vm-", i), 1)
		for range 49 {
			machine.Disks = append(machine.Disks, holdfast.InventoryDisk{SizeBytes: gib})
		}
		calls.Machine(machine).Do(begin().Add(time.Duration(i)*time.Hour), cost.WorkSnapshot)
		if got := kinds(calls.Report()); (got != "") != (i == 1000) {
			t.Fatalf("after %d snapshots: %q", 50*(i+1), got)
		}
	}
	for _, f := range calls.Report().Findings {
		if f.Kind == cost.FindingSnapshotsOfRegion && (f.Asked != 50_050 || f.Limit != 50_000 || f.Region != "westeurope") {
			t.Errorf("%+v", f)
		}
	}
}

// A machine without disks has its machine read and no snapshots.
func TestCalls_NoDisks(t *testing.T) {
	calls := cost.NewCalls()
	machine := vm("a", 1)
	machine.Disks = nil
	v := calls.Machine(machine)
	for range 20 {
		v.Do(begin(), cost.WorkBackup)
	}
	if r := calls.Report(); len(r.Findings) != 0 || len(r.Busiest) != 2 {
		t.Errorf("%+v", r)
	}
}
