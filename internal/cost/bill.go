package cost

import (
	"math/big"
	"slices"

	"github.com/holdfast-backup/holdfast"
)

// bill books what a machine used in one place in a month.
func (v *Machine) bill(c *Costs, p *place, month int) {
	b := biller{costs: c, prices: v.meter.setting.Prices, month: v.meter.bound(month) - v.meter.monthStart(month)}
	u := &p.months[month]
	if p.kind == holdfast.PointSnapshot {
		b.snapshots(v, u)
		return
	}
	b.traffic(v, p, u)
	if p.kind == holdfast.PointArchive {
		b.copied(p.source, u)
	}
	b.stored(p, u)
	if p.repository.Region != "" { // requests to what is no service of Azure's are nobody's business
		b.requests(p, u)
		b.proofs(p.repository, u)
	}
}

// biller turns quantities into lines.
type biller struct {
	costs  *Costs
	prices *Prices
	month  int64 // seconds of the whole calendar month: a GB that is kept all of it is a GB-month
}

// line books a quantity: a sum divided by divisor.
func (b biller) line(l Line, q Quote, quantity sum, divisor *big.Int) {
	if quantity.isZero() {
		return
	}
	l.Unit, l.UnitPrice, l.Price = q.Row.Unit, q.Row.Price, q.Kind
	l.Quantity, l.Cost = quantity.per(divisor), quantity.price(l.UnitPrice, divisor)
	b.costs.add(l)
}

// gbMonths books byte-seconds.
func (b biller) gbMonths(l Line, q Quote, quantity sum) {
	b.line(l, q, quantity, product(gigabyte, b.month))
}

func (b biller) snapshots(v *Machine, u *usage) {
	redundancy := LRS
	if slices.Contains(v.meter.setting.Zonal, v.vm.Region) {
		redundancy = ZRS
	}
	q := b.prices.quote(ItemSnapshot, "", redundancy, v.vm.Region)
	l := Line{Part: PartSnapshots, Region: v.vm.Region, Redundancy: redundancy}
	b.gbMonths(l.of(meterBase), q, u.base)
	b.gbMonths(l.of(meterChange), q, u.change)
}

func (l Line) of(meter string) Line {
	l.Meter = meter
	return l
}

// stored books what lies in a repository, and what went too early.
func (b biller) stored(p *place, u *usage) {
	r := p.repository
	q := b.prices.quote(ItemStored, r.Tier, r.redundancy(), r.Region)
	l := r.line(PartBackups)
	if p.kind == holdfast.PointArchive {
		l.Part = PartArchives
	}
	b.gbMonths(l.of(meterBase), q, u.base)
	b.gbMonths(l.of(meterChange), q, u.change)
	for i, minimum := range minimums {
		if minimum.tier == r.Tier {
			b.gbMonths(l.of(meterEarly), q, u.early[i])
		}
	}
}

// requests books what was asked of a repository. What is not data lies in the hot tier where data lies in the archive tier,
// since it has to be read at once.
func (b biller) requests(p *place, u *usage) {
	r := p.repository
	meta := r.Tier
	if meta == holdfast.TierArchive {
		meta = holdfast.TierHot
	}
	for _, asked := range []struct {
		meter string
		item  Item
		tier  holdfast.Tier
		n     int64
	}{
		{meterWrites, ItemWrite, r.Tier, u.dataWrites},
		{meterWrites, ItemWrite, meta, u.writes},
		{meterReads, ItemRead, meta, u.reads},
		{meterLists, ItemList, meta, u.lists},
		{meterOthers, ItemOther, meta, u.others},
	} {
		l := r.line(PartTransactions).of(asked.meter)
		l.Tier = asked.tier
		b.line(l, b.prices.quote(asked.item, asked.tier, r.redundancy(), r.Region), count(asked.n), product(tenThousand))
	}
}

// copied books what archives read from the repository that they are copied from.
func (b biller) copied(source *Repository, u *usage) {
	if source.Region != "" {
		b.read(source, count(u.sourceReads), product(tenThousand))
		b.retrieved(source, count(u.sent), product(gigabyte))
	}
}

// proofs books that everything stored is read once in a while: byte-seconds, divided by the time in which all is read once,
// are bytes, and those divided by the bytes of a pack are requests.
func (b biller) proofs(r *Repository, u *usage) {
	every := int64(r.ReadEvery.Seconds())
	if every <= 0 || r.Tier == holdfast.TierArchive {
		return
	}
	var all sum
	all.add(u.base)
	all.add(u.change)
	b.read(r, all, product(every, packBytes, tenThousand))
	b.retrieved(r, all, product(every, gigabyte))
}

func (b biller) read(r *Repository, requests sum, divisor *big.Int) {
	b.line(r.line(PartTransactions).of(meterReads), b.prices.quote(ItemRead, r.Tier, r.redundancy(), r.Region), requests, divisor)
}

// retrieved books bytes that were read. The tiers that charge for it are those that have a minimum.
func (b biller) retrieved(r *Repository, bytes sum, divisor *big.Int) {
	if minimumDays(r.Tier) > 0 {
		b.line(r.line(PartTransactions).of(meterRetrieval), b.prices.quote(ItemRetrieval, r.Tier, r.redundancy(), r.Region), bytes, divisor)
	}
}

// traffic books what crosses from one region into another.
func (b biller) traffic(v *Machine, p *place, u *usage) {
	reader := v.meter.setting.Reader
	if reader == "" {
		reader = v.vm.Region
	}
	if p.kind == holdfast.PointArchive {
		b.moved(p, p.source.Region, p.repository.Region, u.sent) // the worker stands beside the archive
		return
	}
	b.moved(p, v.vm.Region, reader, u.read)
	b.moved(p, reader, p.repository.Region, u.sent)
}

func (b biller) moved(p *place, from, to string, bytes int64) {
	if from == "" || to == "" || from == to {
		return
	}
	l := Line{Part: PartTraffic, Meter: meterTraffic, Repository: p.repository.Name, Region: from, ToRegion: to}
	b.line(l, b.prices.traffic(from, to), count(bytes), product(gigabyte))
}

func (r *Repository) line(part Part) Line {
	return Line{Part: part, Repository: r.Name, Region: r.Region, Tier: r.Tier, Redundancy: r.redundancy()}
}

func (r *Repository) redundancy() Redundancy {
	if r.Redundancy == "" {
		return LRS
	}
	return r.Redundancy
}

// count is a number as a sum.
func count(n int64) sum { return sum{low: uint64(n)} }
