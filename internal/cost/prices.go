package cost

import (
	_ "embed"
	"maps"
	"slices"

	"github.com/holdfast-backup/holdfast"
)

// Item is what a price is for.
type Item string

// The items of a price table.
const (
	ItemSnapshot  Item = "snapshot"  // used bytes of incremental snapshots, a GB-month
	ItemStored    Item = "stored"    // bytes of block blobs, a GB-month
	ItemWrite     Item = "write"     // requests that put a blob, 10,000
	ItemRead      Item = "read"      // requests that read one, 10,000
	ItemList      Item = "list"      // requests that list, 10,000
	ItemOther     Item = "other"     // all other requests, such as moving a lock, 10,000
	ItemRetrieval Item = "retrieval" // bytes read from a tier that charges for it, a GB
	ItemTraffic   Item = "traffic"   // bytes that leave a region for another one, a GB
)

// PriceUnit is what a price is paid for.
type PriceUnit string

// The units. A GB is 2³⁰ bytes, as Azure bills it.
const (
	UnitGBMonth PriceUnit = "GB-month"
	UnitGB      PriceUnit = "GB"
	UnitTenK    PriceUnit = "10,000"
)

// PriceUnit returns the unit in which an item is priced; "" when it is none of the items.
func (i Item) PriceUnit() PriceUnit {
	switch i {
	case ItemSnapshot, ItemStored:
		return UnitGBMonth
	case ItemRetrieval, ItemTraffic:
		return UnitGB
	case ItemWrite, ItemRead, ItemList, ItemOther:
		return UnitTenK
	}
	return ""
}

// Continent is a part of the world for prices of traffic.
type Continent string

// PriceRow is one price of a table.
type PriceRow struct {
	Item       Item          `json:"item"`
	Tier       holdfast.Tier `json:"tier,omitempty"`       // of blobs
	Redundancy Redundancy    `json:"redundancy,omitempty"` // of blobs and snapshots
	Region     string        `json:"region,omitempty"`     // of everything but traffic
	From       Continent     `json:"from,omitempty"`       // of traffic
	To         Continent     `json:"to,omitempty"`         // of traffic; "" is any other continent
	Unit       PriceUnit     `json:"unit"`
	Price      Money         `json:"price"`
	Date       string        `json:"date"`   // when the price was read: 2026-11-22
	Source     string        `json:"source"` // where: an address, or words for a contract
	Note       string        `json:"note,omitempty"`
}

// key is what a price is looked up by.
type key struct {
	item       Item
	tier       holdfast.Tier
	redundancy Redundancy
	region     string
	from, to   Continent
}

func (r PriceRow) key() key { return key{r.Item, r.Tier, r.Redundancy, r.Region, r.From, r.To} }

// Prices is a checked price table. It is never changed after it was read.
type Prices struct {
	currency      string
	date          string // of its oldest row
	defaultRegion string
	continents    map[string]Continent // by region
	rows          map[key]PriceRow
}

//go:embed prices.json
var builtIn []byte

// BuiltIn returns the list prices that come with the program. They age: the date of the oldest one is in every report.
func BuiltIn() (*Prices, error) { return ReadPrices(builtIn) }

// BuiltInTable returns the table of BuiltIn as a file, for a person who wants to change it to what a contract says.
func BuiltInTable() []byte { return slices.Clone(builtIn) }

// Currency returns the currency of all prices.
func (p *Prices) Currency() string { return p.currency }

// Date returns the date of the oldest price.
func (p *Prices) Date() string { return p.date }

// Rows returns all prices in a fixed order.
func (p *Prices) Rows() []PriceRow {
	return slices.SortedFunc(maps.Values(p.rows), PriceRow.compare)
}

// Quote is the answer to the question what something costs.
type Quote struct {
	Row  PriceRow
	Kind PriceKind
}

// PriceKind says what a price is worth.
type PriceKind string

// The kinds of price.
const (
	PriceValid         PriceKind = "valid"
	PriceApproximate   PriceKind = "approximate"   // that of another region, redundancy or tier
	PriceUnknown       PriceKind = "unknown"       // there is none; the cost counts as nothing
	PriceNotApplicable PriceKind = "notApplicable" // it is no service of Azure's; the cost counts as nothing
)

// worth is the kind of a price that was found.
func worth(exact bool) PriceKind {
	if exact {
		return PriceValid
	}
	return PriceApproximate
}

// quote finds the price of an item that is sold by region. A region without a price of its own gets that of the default
// region; of a redundancy that is priced in neither, the price of LRS.
func (p *Prices) quote(item Item, tier holdfast.Tier, redundancy Redundancy, region string) Quote {
	exact := true
	switch {
	case region == "":
		return Quote{Row: PriceRow{Unit: item.PriceUnit()}, Kind: PriceNotApplicable}
	case !item.tiered():
		tier = ""
	case tier == holdfast.TierInferred || tier == "":
		tier, exact = holdfast.TierHot, false // what a storage account is born with
	}
	for _, r := range []Redundancy{redundancy, LRS} {
		for _, where := range []string{region, p.defaultRegion} {
			if row, ok := p.rows[key{item: item, tier: tier, redundancy: r, region: where}]; ok {
				return Quote{Row: row, Kind: worth(exact && where == region && r == redundancy)}
			}
		}
	}
	return Quote{Row: PriceRow{Unit: item.PriceUnit()}, Kind: PriceUnknown}
}

// traffic finds the price of bytes that leave a region for another. From a region whose continent is not known the default
// region's is taken.
func (p *Prices) traffic(from, to string) Quote {
	source, known := p.continents[from]
	target, targetKnown := p.continents[to]
	if !known {
		source = p.continents[p.defaultRegion]
	}
	for _, c := range []Continent{target, ""} {
		if row, ok := p.rows[key{item: ItemTraffic, from: source, to: c}]; ok {
			return Quote{Row: row, Kind: worth(known && targetKnown)}
		}
	}
	return Quote{Row: PriceRow{Unit: UnitGB}, Kind: PriceUnknown}
}
