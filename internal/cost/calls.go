package cost

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/holdfast-backup/holdfast"
)

// Place is where requests are counted.
type Place struct {
	Subscription string
	Region       string
}

// Calls counts requests towards Azure's limits, as if all that falls due at an instant were asked for at once. It is told of
// instants in order of time. Not safe for concurrent use.
//
// What is told apart: Resource Manager counts a caller by subscription, wherever the resources are; the compute service counts
// by region as well.
type Calls struct {
	meters   map[callKey]*callMeter
	regions  map[Place]*regionCount
	findings map[findingKey]*Finding
}

type callKey struct {
	place Place
	class Class
}

type findingKey struct {
	kind  FindingKind
	place Place
	class Class
	vm    string
}

// callMeter is one token bucket, and how full it was.
type callMeter struct {
	place                Place
	class                Class
	bucket               bucket
	level                int64 // tokens, times secondsPerMinute: below nothing is what is owed
	at                   int64
	minute, hour         interval
	busyMinute, busyHour interval
	total                int64
}

// interval is a minute or an hour of the clock, and how many requests lie in it.
type interval struct{ start, count int64 }

const (
	secondsPerMinute = 60
	secondsPerHour   = 60 * 60
)

// regionCount is how many snapshots exist in a region.
type regionCount struct{ snapshots int64 }

// NewCalls makes a counter that has seen nothing; all buckets are full.
func NewCalls() *Calls {
	return &Calls{meters: map[callKey]*callMeter{}, regions: map[Place]*regionCount{}, findings: map[findingKey]*Finding{}}
}

// At says that n requests of a class are sent at an instant.
func (c *Calls) At(at time.Time, place Place, class Class, n int64) {
	c.take(c.meter(place, class), at.Unix(), n)
}

// meter finds the bucket of a class.
func (c *Calls) meter(place Place, class Class) *callMeter {
	switch class {
	case Reads, Writes, Deletes:
		place.Region = ""
	case VMReads, Polls:
	}
	k := callKey{place, class}
	m := c.meters[k]
	if m == nil {
		m = &callMeter{place: place, class: class, bucket: bucketOf(class)}
		m.level = m.bucket.size * secondsPerMinute
		c.meters[k] = m
	}
	return m
}

// take takes n tokens. What is not there is owed, and comes with time: the requests wait.
func (c *Calls) take(m *callMeter, at, n int64) {
	if n <= 0 {
		return
	}
	if at > m.at {
		m.level = min(m.bucket.size*secondsPerMinute, m.level+(at-m.at)*m.bucket.perMinute)
		m.at = at
	}
	m.level -= n * secondsPerMinute
	m.total += n
	m.minute.add(at, secondsPerMinute, n, &m.busyMinute)
	m.hour.add(at, secondsPerHour, n, &m.busyHour)
	if m.level < 0 {
		owed := -m.level
		wait := time.Duration((owed+m.bucket.perMinute-1)/m.bucket.perMinute) * time.Second
		c.find(findingKey{kind: FindingThrottled, place: m.place, class: m.class}, at, m.bucket.size+(owed+secondsPerMinute-1)/secondsPerMinute, m.bucket.size, wait)
	}
}

// add counts requests into the interval of an instant, and remembers the busiest one.
func (i *interval) add(at, length, n int64, busiest *interval) {
	if start := at - at%length; start != i.start {
		*i = interval{start: start}
	}
	i.count += n
	if i.count > busiest.count {
		*busiest = *i
	}
}

// find notes that a limit was passed.
func (c *Calls) find(k findingKey, at, asked, limit int64, wait time.Duration) {
	f := c.findings[k]
	when := time.Unix(at, 0).UTC()
	if f == nil {
		f = &Finding{
			Kind: k.kind, Subscription: k.place.Subscription, Region: k.place.Region, Class: k.class, VM: holdfast.ResourceID(k.vm),
			First: when, Limit: limit,
		}
		c.findings[k] = f
	}
	f.Times++
	if asked > f.Asked {
		f.Worst, f.Asked, f.Wait = when, asked, wait
	}
}

// Caller is one machine whose work sends requests.
type Caller struct {
	calls  *Calls
	place  Place
	vm     holdfast.ResourceID
	disks  int64
	meters [classes]*callMeter
	region *regionCount

	kept   int64                  // snapshots of each disk that exist
	recent [snapshotRateMax]int64 // when the last ones were made
	made   int64
	open   int64 // snapshots of each disk that are open for reading
	opened int64 // since when
}

// Machine adds a machine.
func (c *Calls) Machine(vm holdfast.InventoryVM) *Caller {
	caller := &Caller{calls: c, place: Place{vm.ID.Subscription(), vm.Region}, vm: vm.ID, disks: int64(len(vm.Disks))}
	for i, class := range classList() {
		caller.meters[i] = c.meter(caller.place, class)
	}
	if c.regions[caller.place] == nil {
		c.regions[caller.place] = &regionCount{}
	}
	caller.region = c.regions[caller.place]
	return caller
}

// Do says that a piece of work begins at an instant. Works of a machine at the same instant run at the same time.
func (v *Caller) Do(at time.Time, w Work) {
	r := requestsOf(w)
	now := at.Unix()
	for i, m := range v.meters {
		v.calls.take(m, now, r.machine[i]+v.disks*r.disk[i])
	}
	switch w {
	case WorkSnapshot:
		v.snapshot(now)
	case WorkFirstBackup:
		v.snapshot(now)
		v.access(now, 1)
	case WorkBackup: // the snapshot that it replaces goes when its own is there
		v.snapshot(now)
		v.access(now, 2)
		v.remove()
	case WorkRemove:
		v.remove()
	}
}

// snapshot counts a snapshot of each disk.
func (v *Caller) snapshot(at int64) {
	if v.disks == 0 {
		return
	}
	v.kept++
	v.region.snapshots += v.disks
	if v.kept > snapshotsOfDiskMax {
		v.find(FindingSnapshotsOfDisk, at, v.kept, snapshotsOfDiskMax)
	}
	if v.region.snapshots > snapshotsOfRegionMax {
		v.calls.find(findingKey{kind: FindingSnapshotsOfRegion, place: v.place}, at, v.region.snapshots, snapshotsOfRegionMax, 0)
	}
	oldest := &v.recent[v.made%snapshotRateMax]
	if v.made >= snapshotRateMax && at-*oldest < snapshotRateWindow {
		v.find(FindingSnapshotRate, at, snapshotRateMax+1, snapshotRateMax)
	}
	*oldest = at
	v.made++
}

func (v *Caller) remove() {
	if v.disks == 0 || v.kept == 0 {
		return
	}
	v.kept--
	v.region.snapshots -= v.disks
}

// access counts snapshots of each disk that are opened for reading.
func (v *Caller) access(at, n int64) {
	if v.disks == 0 {
		return
	}
	if at != v.opened {
		v.open, v.opened = 0, at
	}
	v.open += n
	if v.open > accessOfFamilyMax {
		v.find(FindingAccessOfFamily, at, v.open, accessOfFamilyMax)
	}
}

func (v *Caller) find(kind FindingKind, at, asked, limit int64) {
	v.calls.find(findingKey{kind: kind, place: v.place, vm: string(v.vm)}, at, asked, limit, 0)
}

// CallReport is how many requests are sent.
type CallReport struct {
	Busiest  []Busiest `json:"busiest"`  // by subscription, class and region
	Findings []Finding `json:"findings"` // never nil
}

// Busiest says when most requests of a class are sent.
type Busiest struct {
	Subscription string    `json:"subscription"`
	Region       string    `json:"region,omitempty"` // of classes that are counted by region
	Class        Class     `json:"class"`
	Total        int64     `json:"total"`
	Minute       time.Time `json:"minute"` // the busiest one
	MinuteCount  int64     `json:"minuteCount"`
	Hour         time.Time `json:"hour"` // the busiest one
	HourCount    int64     `json:"hourCount"`
	Bucket       int64     `json:"bucket"`    // so many may be sent at once
	PerMinute    int64     `json:"perMinute"` // and so many a minute after that
}

// Report says what was counted. More may be counted afterwards.
func (c *Calls) Report() CallReport {
	r := CallReport{Findings: []Finding{}}
	for _, m := range c.meters {
		if m.total == 0 {
			continue
		}
		r.Busiest = append(r.Busiest, Busiest{
			Subscription: m.place.Subscription, Region: m.place.Region, Class: m.class, Total: m.total,
			Minute: time.Unix(m.busyMinute.start, 0).UTC(), MinuteCount: m.busyMinute.count,
			Hour: time.Unix(m.busyHour.start, 0).UTC(), HourCount: m.busyHour.count,
			Bucket: m.bucket.size, PerMinute: m.bucket.perMinute,
		})
	}
	slices.SortFunc(r.Busiest, func(a, b Busiest) int {
		return cmp.Or(cmp.Compare(a.Subscription, b.Subscription), cmp.Compare(a.Class, b.Class), cmp.Compare(a.Region, b.Region))
	})
	for _, f := range slices.SortedFunc(maps.Values(c.findings), compareFindings) {
		found := *f
		found.Message = found.sentence()
		r.Findings = append(r.Findings, found)
	}
	return r
}

func compareFindings(a, b *Finding) int {
	return cmp.Or(a.First.Compare(b.First), cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Subscription, b.Subscription),
		cmp.Compare(a.Region, b.Region), cmp.Compare(a.Class, b.Class), cmp.Compare(a.VM, b.VM))
}

// sentence says for a person what was found.
func (f Finding) sentence() string {
	at := f.Worst.Format(time.RFC3339)
	switch f.Kind {
	case FindingThrottled:
		return fmt.Sprintf("at %s %d %s are asked for in the subscription %s, where %d may be at once; the last of them waits %s",
			at, f.Asked, f.Class, f.Subscription, f.Limit, f.Wait)
	case FindingSnapshotsOfDisk:
		return fmt.Sprintf("at %s each disk of %s would have %d snapshots; Azure allows %d", at, f.VM.Name(), f.Asked, f.Limit)
	case FindingSnapshotRate:
		return fmt.Sprintf("at %s %d snapshots of a disk of %s would be made within five minutes; Azure allows %d", at, f.Asked, f.VM.Name(), f.Limit)
	case FindingAccessOfFamily:
		return fmt.Sprintf("at %s %d snapshots of a disk of %s would be read at the same time; Azure allows %d", at, f.Asked, f.VM.Name(), f.Limit)
	case FindingSnapshotsOfRegion:
		return fmt.Sprintf("at %s there would be %d snapshots in %s of the subscription %s; Azure allows %d", at, f.Asked, f.Region, f.Subscription, f.Limit)
	}
	return ""
}
