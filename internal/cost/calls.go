package cost

import (
	"cmp"
	"fmt"
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
	work     map[Work]requests
	findings []*Finding
}

type callKey struct {
	place Place
	class Class
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
	throttled            *Finding // nil until it is
}

// interval is a minute or an hour of the clock, and how many requests lie in it.
type interval struct{ start, count int64 }

const (
	secondsPerMinute = 60
	secondsPerHour   = 60 * 60
)

// regionCount is how many snapshots exist in a region.
type regionCount struct {
	snapshots int64
	passed    *Finding // nil until there are too many
}

// NewCalls makes a counter that has seen nothing; all buckets are full.
func NewCalls() *Calls {
	c := &Calls{meters: map[callKey]*callMeter{}, regions: map[Place]*regionCount{}, work: map[Work]requests{}}
	for _, w := range []Work{WorkSnapshot, WorkBackup, WorkFirstBackup, WorkRemove} {
		c.work[w] = requestsOf(w)
	}
	return c
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
		wait := (owed + m.bucket.perMinute - 1) / m.bucket.perMinute
		if m.throttled == nil {
			m.throttled = c.find(Finding{Kind: FindingThrottled, Subscription: m.place.Subscription, Region: m.place.Region, Class: m.class, Limit: m.bucket.size})
		}
		m.throttled.passed(at, m.bucket.size+(owed+secondsPerMinute-1)/secondsPerMinute, wait)
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

// find adds a finding.
func (c *Calls) find(f Finding) *Finding {
	c.findings = append(c.findings, &f)
	return &f
}

// passed notes that the limit of a finding was passed at an instant.
func (f *Finding) passed(at, asked, wait int64) {
	when := time.Unix(at, 0).UTC()
	if f.Times == 0 {
		f.First = when
	}
	if f.Times == 0 || !when.Equal(f.last) {
		f.Times++
		f.last = when
	}
	if asked > f.Asked {
		f.Worst, f.Asked, f.WaitSeconds = when, asked, wait
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

	tooMany, tooFast, tooOpen *Finding // nil until they are
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
	r := v.calls.work[w]
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
		v.find(&v.tooMany, FindingSnapshotsOfDisk, snapshotsOfDiskMax).passed(at, v.kept, 0)
	}
	if v.region.snapshots > snapshotsOfRegionMax {
		if v.region.passed == nil {
			v.region.passed = v.calls.find(Finding{Kind: FindingSnapshotsOfRegion, Subscription: v.place.Subscription, Region: v.place.Region, Limit: snapshotsOfRegionMax})
		}
		v.region.passed.passed(at, v.region.snapshots, 0)
	}
	oldest := &v.recent[v.made%snapshotRateMax]
	if v.made >= snapshotRateMax && at-*oldest < snapshotRateWindow {
		v.find(&v.tooFast, FindingSnapshotRate, snapshotRateMax).passed(at, snapshotRateMax+1, 0)
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
		v.find(&v.tooOpen, FindingAccessOfFamily, accessOfFamilyMax).passed(at, v.open, 0)
	}
}

// find returns the finding about this machine that belongs into a field, and makes it when it is the first time.
func (v *Caller) find(field **Finding, kind FindingKind, limit int64) *Finding {
	if *field == nil {
		*field = v.calls.find(Finding{Kind: kind, Subscription: v.place.Subscription, Region: v.place.Region, VM: v.vm, Limit: limit})
	}
	return *field
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
	for _, f := range slices.SortedFunc(slices.Values(c.findings), compareFindings) {
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
			at, f.Asked, f.Class, f.Subscription, f.Limit, time.Duration(f.WaitSeconds)*time.Second)
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
