// Package cost says what a policy will cost a month, what about it should make a person think twice, and how many requests
// it sends towards Azure's limits.
//
// It has two accumulators that a simulation feeds: Meter, which is told which points were made and removed and turns that
// into GB-months, bytes moved, requests and money; and Calls, which is told which requests are sent when and finds the
// instants at which a limit would be passed. Both are pure: events in order of time in, figures out.
//
// What it promises:
//
//   - The same events give the same figures, to the last digit: quantities and money are integers, and totals are sums of
//     the rows beside them. What machines cost adds up: two machines together cost what each costs alone.
//   - No cost is negative, and keeping a point longer never makes storage cheaper.
//   - Every price says where it was read and when; a region without a price of its own gets that of the default region, and
//     the warning PriceIsApproximate says so.
//
// What it must never do: pretend to more than an estimate. It knows list prices, assumes how full disks are and how fast they
// change (Assumptions), and leaves out discounts, taxes, what restores cost, and the machine on which Holdfast runs.
//
// The model of how much kept points hold is in chain.go, the rules of the warnings in warnings.go, those of the limits in
// limits.go; for readers they are in doc/policies.md, "Cost and limits".
package cost

import (
	"math"
	"slices"
	"time"

	"github.com/holdfast-backup/holdfast"
)

// Assumptions are what nobody knows before a policy has run for a while. Each is a ratio from 0 to 1.
type Assumptions struct {
	// Occupied is the share of a disk that holds data. 0.5: people size disks for growth, and file systems are grown when they
	// are eighty percent full, not shrunk when they are twenty.
	Occupied float64 `json:"occupied"`
	// DailyChurn is the share of the data that a day changes. 0.03: between the 1 % of file servers and the 5 to 10 % of
	// databases. It is counted in chunks: a page written into a chunk changes the chunk.
	DailyChurn float64 `json:"dailyChurn"`
	// Compression is stored size over plain size of backups and archives; 1 is no gain. 0.6: operating systems and databases
	// compress to half, media and what is encrypted or compressed already not at all.
	Compression float64 `json:"compression"`
}

// DefaultAssumptions are those that a person starts from.
func DefaultAssumptions() Assumptions {
	return Assumptions{Occupied: 0.5, DailyChurn: 0.03, Compression: 0.6}
}

// Validate returns a KindInvalid error naming the ratio that is out of range.
func (a Assumptions) Validate() error {
	for _, ratio := range []struct {
		field string
		value float64
	}{{"occupied", a.Occupied}, {"dailyChurn", a.DailyChurn}, {"compression", a.Compression}} {
		if math.IsNaN(ratio.value) || ratio.value < 0 || ratio.value > 1 {
			return holdfast.Errorf(holdfast.KindInvalid, "the ratio %v is not between 0 and 1", ratio.value).
				WithField(ratio.field).WithHint("write a number from 0 to 1, such as 0.03 for three percent")
		}
	}
	return nil
}

// Redundancy is what prices of storage depend on besides its tier and region.
type Redundancy = holdfast.Redundancy

// The redundancies that prices are known for.
const (
	LRS  = holdfast.RedundancyLRS
	ZRS  = holdfast.RedundancyZRS
	GRS  = holdfast.RedundancyGRS
	GZRS = holdfast.RedundancyGZRS
)

// Repository is what costs depend on of a repository.
type Repository struct {
	Name       string
	Region     string // "" when its storage is no service of Azure: then it costs nothing that could be told here
	Tier       holdfast.Tier
	Redundancy Redundancy // "" means that nobody said; LRS stands for it, and a report says so
	Immutable  bool
	// ReadEvery is how often everything stored is read whole to prove it; 0 is never. Nothing is read from the archive tier.
	ReadEvery time.Duration
}

// Repositories takes from documents what costs depend on.
func Repositories(specs []holdfast.RepositorySpec) []Repository {
	var list []Repository
	for _, s := range specs {
		list = append(list, Repository{Name: s.Name, Region: s.Region, Tier: s.Tier, Redundancy: s.Redundancy, Immutable: s.Immutable})
	}
	return list
}

// Setting is what a Meter works with. Prices is required.
type Setting struct {
	Prices       *Prices
	Assumptions  Assumptions
	Repositories []Repository
	// Zonal names the regions with availability zones, where snapshots are zone-redundant.
	Zonal []string
	// Reader is the region where disks are read and packs are written; "" means beside each machine. What crosses a border on
	// its way there is plain, what crosses one afterwards is compressed.
	Reader string
}

func (s Setting) validate() error {
	if s.Prices == nil {
		return holdfast.Errorf(holdfast.KindInternal, "costs cannot be told without prices")
	}
	if err := s.Assumptions.Validate(); err != nil {
		return err
	}
	for i, r := range s.Repositories {
		if slices.ContainsFunc(s.Repositories[:i], func(o Repository) bool { return o.Name == r.Name }) {
			return holdfast.Errorf(holdfast.KindInvalid, "the repository %s is named twice", r.Name).WithField("repositories")
		}
	}
	return nil
}
