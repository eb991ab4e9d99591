package cost

import (
	"math"
	"time"

	"github.com/holdfast-backup/holdfast"
)

const (
	secondsPerDay = 24 * 60 * 60
	gigabyte      = 1 << 30
	tenThousand   = 10_000
	// packBytes is how much of what is stored goes into one object: the size at which a writer closes a pack.
	packBytes = 16 << 20
	// lockWindow is how much longer than asked locks are set, and so how often the locks of what points share are moved
	// (doc/format.md §12).
	lockWindow = 10 * secondsPerDay
)

// Requests to the store of a repository that a backup sends beside those for its data, in an account that keeps versions. A test
// counts what backups send against a store and holds these numbers against it. Reads go up and down: the log is read from
// the last checkpoint on.
const (
	writesPerPoint  = 8  // tree pack, index run, pack list, manifest, and the entries begin, publish, annotate and settle
	readsPerPoint   = 55 // entries of the log since the checkpoint, keys, blocks of the index, nodes of the tree
	othersPerPoint  = 25 // does it exist, and as it was put
	listsPerPoint   = 30 // versions of entries of the log: nobody shadowed them
	writesPerRemove = 1  // the entry remove; what collecting adds is shared by many removals and left out
)

// Row is a row of a policy, as costs see it.
type Row struct {
	Flag       holdfast.Flag      `json:"flag"`
	Kind       holdfast.PointKind `json:"kind"`
	Repository string             `json:"repository,omitempty"`
	KeepCount  int                `json:"keepCount,omitempty"` // of snapshots of schedule-based policies
	KeepFor    holdfast.Period    `json:"keepFor,omitzero"`    // of everything else
}

// ScheduleRows returns the rows of a schedule-based policy.
func ScheduleRows(p holdfast.SchedulePolicy) []Row {
	var rows []Row
	for _, r := range p.Rows {
		rows = append(rows, Row{Flag: r.Flag, Kind: r.Kind, Repository: r.Repository, KeepCount: r.KeepCount, KeepFor: r.KeepFor})
	}
	return rows
}

// SLARows returns the rows of an SLA template for machines of a region, whose points go where a storage template says.
func SLARows(t holdfast.SLATemplate, s holdfast.StorageTemplate, region string) []Row {
	var rows []Row
	for _, r := range t.Rows {
		row := Row{Flag: r.Flag, Kind: r.Kind, KeepFor: r.KeepFor}
		switch r.Kind {
		case holdfast.PointBackup:
			row.Repository = s.Backups.In(region)
		case holdfast.PointArchive:
			row.Repository = s.Archives.In(region)
		case holdfast.PointSnapshot:
		}
		rows = append(rows, row)
	}
	return rows
}

// Protection says by what a machine is protected.
type Protection struct {
	Policy string
	Rows   []Row
}

// Point is a restore point that was made.
type Point struct {
	Kind       holdfast.PointKind
	Repository string // of backups and archives
	Source     string // of archives: the repository that it was copied from
	Created    time.Time
	// Full says that the disks were read whole, since there was no snapshot to compare with. The first point of a repository is
	// read whole in any case.
	Full bool
}

// Meter adds up what a simulation uses. It is told of the points of each machine in order of time, give or take a session; of
// different machines in any order. Not safe for concurrent use.
type Meter struct {
	setting      Setting
	repositories map[string]*Repository
	from         int64
	bounds       []int64 // ends of the months that were reached, by the calendar in UTC
	machines     []*Machine
	rate         float64 // of change, for a second
}

// NewMeter makes a meter for a simulation that begins at an instant. It reports a setting that cannot be worked with.
func NewMeter(setting Setting, from time.Time) (*Meter, error) {
	if err := setting.validate(); err != nil {
		return nil, err
	}
	m := &Meter{setting: setting, repositories: map[string]*Repository{}, from: from.Unix(), rate: rateOf(setting.Assumptions.DailyChurn)}
	for i := range setting.Repositories {
		m.repositories[setting.Repositories[i].Name] = &setting.Repositories[i]
	}
	m.bounds = []int64{monthEnd(m.from)}
	return m, nil
}

// monthEnd returns the end of the calendar month, in UTC, that an instant lies in.
func monthEnd(at int64) int64 {
	year, month, _ := time.Unix(at, 0).UTC().Date()
	return time.Date(year, month+1, 1, 0, 0, 0, 0, time.UTC).Unix()
}

// bound returns the end of the i-th month.
func (m *Meter) bound(i int) int64 {
	for i >= len(m.bounds) {
		m.bounds = append(m.bounds, monthEnd(m.bounds[len(m.bounds)-1]))
	}
	return m.bounds[i]
}

// Machine is one machine of a simulation, under one policy.
type Machine struct {
	meter      *Meter
	vm         holdfast.InventoryVM
	protection Protection
	plain      int64    // bytes of data on its disks
	places     []*place // of its snapshots, backups and archives, in the order in which they were first used
}

// Machine adds a machine and returns what its points are told to. A machine that changes its policy is added again.
func (m *Meter) Machine(vm holdfast.InventoryVM, protection Protection) *Machine {
	machine := &Machine{meter: m, vm: vm, protection: protection, plain: share(vm.Bytes(), m.setting.Assumptions.Occupied)}
	m.machines = append(m.machines, machine)
	return machine
}

// share returns a part of a number of bytes.
func share(bytes int64, ratio float64) int64 { return int64(math.Round(float64(bytes) * ratio)) }

// Made says that a restore point was made. One that was made before the simulation began costs storage from then on, and
// no requests.
func (v *Machine) Made(p Point) {
	at := p.Created.Unix()
	place := v.place(p)
	place.accrue(at)
	gap := place.since(at)
	added := place.add(at)
	if at < v.meter.from || p.Kind == holdfast.PointSnapshot {
		return
	}
	u := place.now()
	u.writes += writesPerPoint
	u.reads += readsPerPoint
	u.lists += listsPerPoint
	u.others += othersPerPoint
	u.dataWrites += packs(added)
	u.sent += added
	if place.repository.Immutable {
		u.others += place.renewLocks(at)
	}
	switch {
	case p.Kind == holdfast.PointArchive:
		u.sourceReads += packs(added)
	case p.Full || gap < 0:
		place.wholeAgain = place.wholeAgain || gap >= 0
		u.read += v.plain
	default:
		u.read += changed(v.plain, v.meter.rate, gap)
	}
}

// Removed says that a restore point went at an instant. It must have been made, or have been there before.
func (v *Machine) Removed(p Point, at time.Time) {
	place, removed, created := v.place(p), at.Unix(), p.Created.Unix()
	place.accrue(removed)
	freed := place.remove(created)
	if p.Kind == holdfast.PointSnapshot {
		return
	}
	u := place.now()
	u.writes += writesPerRemove
	for i, minimum := range minimums {
		u.early[i].addProduct(freed.bytes, freed.owed(place.rate, created, removed, int64(minimum.days)*secondsPerDay))
	}
}

// minimums are the tiers whose storage must be paid for a minimum of time, however early what was stored goes.
var minimums = [...]struct {
	tier holdfast.Tier
	days int
}{{holdfast.TierCool, 30}, {holdfast.TierCold, 90}, {holdfast.TierArchive, 180}}

// minimumDays returns how long storage of a tier must be paid for; 0 for a tier without a minimum.
func minimumDays(tier holdfast.Tier) int {
	for _, m := range minimums {
		if m.tier == tier {
			return m.days
		}
	}
	return 0
}

// packs returns how many objects so many bytes make.
func packs(bytes int64) int64 { return (bytes + packBytes - 1) / packBytes }

// place is what a machine keeps in one place, and what that has used so far.
type place struct {
	chain
	meter      *Meter
	kind       holdfast.PointKind
	repository *Repository // of snapshots, and of a name that the setting does not know: one without a region
	source     *Repository // of archives: what they are copied from
	accrued    int64       // up to when what is kept is added up
	renewed    int64       // when the locks of what is kept were last set
	wholeAgain bool        // a backup that was not the first read the disks whole
	month      int         // the number of the month that accrued lies in
	months     []usage
}

// usage is what was used in one month.
type usage struct {
	base, change sum // byte-seconds: of the newest point, and of what older ones hold besides
	early        [len(minimums)]sum
	dataWrites   int64 // requests
	writes       int64 // requests that do not grow with the data, as the next three
	reads        int64
	lists        int64
	others       int64
	sourceReads  int64 // requests to the repository that archives are copied from
	read         int64 // plain bytes, from the machine's region to the reader's
	sent         int64 // bytes as they are stored, from there to the repository
}

// place finds or makes the place of a point.
func (v *Machine) place(p Point) *place {
	for _, place := range v.places {
		if place.kind == p.Kind && place.repository.Name == p.Repository {
			return place
		}
	}
	size := v.plain
	if p.Kind != holdfast.PointSnapshot {
		size = share(size, v.meter.setting.Assumptions.Compression)
	}
	place := &place{
		chain: chain{size: size, rate: v.meter.rate}, meter: v.meter, kind: p.Kind, accrued: v.meter.from,
		repository: v.meter.repository(p.Repository), source: v.meter.repository(p.Source),
	}
	v.places = append(v.places, place)
	return place
}

// repository returns what is known of a repository; of one that nobody told of, its name alone.
func (m *Meter) repository(name string) *Repository {
	if r, ok := m.repositories[name]; ok {
		return r
	}
	r := &Repository{Name: name}
	m.repositories[name] = r
	return r
}

// accrue adds up what was kept until an instant.
func (p *place) accrue(to int64) {
	for p.accrued < to {
		end := min(to, p.meter.bound(p.month))
		u := p.now()
		u.base.addProduct(p.base(), end-p.accrued)
		u.change.addProduct(p.change, end-p.accrued)
		p.accrued = end
		if end == p.meter.bound(p.month) {
			p.month++
		}
	}
}

// now returns the usage of the month that was reached.
func (p *place) now() *usage {
	for p.month >= len(p.months) {
		p.months = append(p.months, usage{})
	}
	return &p.months[p.month]
}

// renewLocks returns how many locks a new point moves: those of all packs that it shares with older ones, once in a window.
// What it adds is locked at birth.
func (p *place) renewLocks(at int64) int64 {
	switch {
	case len(p.points) == 1:
		p.renewed = at
	case at-p.renewed >= lockWindow:
		p.renewed = at
		return packs(p.size)
	}
	return 0
}
