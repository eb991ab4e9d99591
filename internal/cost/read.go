package cost

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strings"
	"time"

	"github.com/holdfast-backup/holdfast"
)

// Limits of a price file: far more than there are regions and meters, and little enough to be read by anybody who asks.
const (
	tableBytesMax = 4 << 20
	tableFormat   = 1
	textCharsMax  = 500
)

// table is a price file as written.
type table struct {
	Format        int                    `json:"format"`
	Currency      string                 `json:"currency"`
	DefaultRegion string                 `json:"defaultRegion"`
	Continents    map[Continent][]string `json:"continents"`
	Rows          []json.RawMessage      `json:"rows"`
}

var (
	currencyForm  = regexp.MustCompile(`^[A-Z]{3}$`)
	regionForm    = regexp.MustCompile(`^[a-z][a-z0-9]{1,39}$`)
	continentForm = regexp.MustCompile(`^[a-z][a-zA-Z]{1,39}$`)
)

// ReadPrices reads and checks a price file: a whole table, which takes the place of the built-in one. Nothing in it is
// ignored; a mistake is an error of KindInvalid whose Field says where it is.
func ReadPrices(data []byte) (*Prices, error) {
	if len(data) > tableBytesMax {
		return nil, invalid("", "the price file has %d bytes", len(data)).WithHint("at most %d are read", tableBytesMax)
	}
	if err := uniqueNames(data); err != nil {
		return nil, err
	}
	var t table
	if err := decode(data, &t); err != nil {
		return nil, invalid("", "the price file cannot be read: %s", plain(err)).
			WithHint("its form is in doc/policies.md, under Cost and limits")
	}
	p := &Prices{currency: t.Currency, defaultRegion: t.DefaultRegion, continents: map[string]Continent{}, rows: map[key]PriceRow{}}
	if err := p.readHead(t); err != nil {
		return nil, err
	}
	for i, raw := range t.Rows {
		if err := p.readRow(raw); err != nil {
			return nil, err.WithField(strings.TrimSuffix(fmt.Sprintf("rows[%d].%s", i, err.Field), "."))
		}
	}
	if err := p.complete(); err != nil {
		return nil, err
	}
	return p, nil
}

// readHead checks what stands above the rows.
func (p *Prices) readHead(t table) error {
	switch {
	case t.Format != tableFormat:
		return invalid("format", "the price file is of format %d", t.Format).WithHint("this program reads format %d", tableFormat)
	case !currencyForm.MatchString(t.Currency):
		return invalid("currency", "%q is not a currency", cut(t.Currency)).WithHint("write its three capital letters, such as USD")
	case !regionForm.MatchString(t.DefaultRegion):
		return invalid("defaultRegion", "%q is not the name of a region", cut(t.DefaultRegion)).WithHint("write it as Azure does: westeurope")
	}
	for continent, regions := range t.Continents {
		if !continentForm.MatchString(string(continent)) {
			return invalid("continents", "%q is not the name of a continent", cut(string(continent))).WithHint("write letters alone, such as northAmerica")
		}
		for _, region := range regions {
			if !regionForm.MatchString(region) {
				return invalid("continents."+string(continent), "%q is not the name of a region", cut(region)).WithHint("write it as Azure does: westeurope")
			}
			if p.continents[region] != "" {
				return invalid("continents", "the region %s stands in a continent twice", region)
			}
			p.continents[region] = continent
		}
	}
	if p.continents[p.defaultRegion] == "" {
		return invalid("defaultRegion", "the region %s stands in no continent", p.defaultRegion).WithHint("add it under continents")
	}
	return nil
}

// readRow checks one price and adds it.
func (p *Prices) readRow(raw json.RawMessage) *holdfast.Error {
	var r PriceRow
	if err := decode(raw, &r); err != nil {
		var e *holdfast.Error
		if errors.As(err, &e) {
			return e.WithField("price")
		}
		return invalid("", "the row cannot be read: %s", plain(err))
	}
	if err := p.checkRow(r); err != nil {
		return err
	}
	if _, twice := p.rows[r.key()]; twice {
		return invalid("", "the price of this %s is given twice", r.Item)
	}
	p.rows[r.key()] = r
	if p.date == "" || r.Date < p.date {
		p.date = r.Date
	}
	return nil
}

func (p *Prices) checkRow(r PriceRow) *holdfast.Error {
	_, dateErr := time.Parse(time.DateOnly, r.Date)
	switch {
	case r.Item.PriceUnit() == "":
		return invalid("item", "%q is nothing that has a price", cut(string(r.Item))).
			WithHint("write snapshot, stored, write, read, list, other, retrieval or traffic")
	case r.Unit != r.Item.PriceUnit():
		return invalid("unit", "%q is not the unit of %s", cut(string(r.Unit)), r.Item).WithHint("write %s", r.Item.PriceUnit())
	case r.Price < 0:
		return invalid("price", "the price is negative")
	case dateErr != nil:
		return invalid("date", "%q is not a date", cut(r.Date)).WithHint("write when the price was read, such as 2026-11-22")
	case r.Source == "" || len(r.Source) > textCharsMax || len(r.Note) > textCharsMax:
		return invalid("source", "source or note are missing or too long").
			WithHint("say where the price was read, in at most %d characters", textCharsMax)
	case r.Item == ItemTraffic:
		return p.checkTraffic(r)
	case r.From != "" || r.To != "":
		return invalid("from", "only traffic goes from somewhere to somewhere")
	case !regionForm.MatchString(r.Region):
		return invalid("region", "%q is not the name of a region", cut(r.Region)).WithHint("write it as Azure does: westeurope")
	case p.continents[r.Region] == "":
		return invalid("region", "the region %s stands in no continent", r.Region).WithHint("add it under continents")
	}
	return checkPlace(r)
}

// checkTraffic checks a row of traffic, which is priced by continents.
func (p *Prices) checkTraffic(r PriceRow) *holdfast.Error {
	known := map[Continent]bool{"": true}
	for _, c := range p.continents {
		known[c] = true
	}
	switch {
	case r.Region != "" || r.Tier != "" || r.Redundancy != "":
		return invalid("region", "traffic has no region, tier or redundancy").WithHint("write from, and to where it is not any other continent")
	case r.From == "" || !known[r.From]:
		return invalid("from", "%q is none of the continents", cut(string(r.From)))
	case !known[r.To]:
		return invalid("to", "%q is none of the continents", cut(string(r.To)))
	}
	return nil
}

// checkPlace checks tier and redundancy: snapshots, lists and other requests are priced without a tier.
func checkPlace(r PriceRow) *holdfast.Error {
	switch r.Redundancy {
	case LRS, ZRS, GRS, GZRS:
	default:
		return invalid("redundancy", "%q is not a redundancy", cut(string(r.Redundancy))).WithHint("write LRS, ZRS, GRS or GZRS")
	}
	if !r.Item.tiered() {
		if r.Tier != "" {
			return invalid("tier", "the price of %s does not depend on a tier", r.Item)
		}
		return nil
	}
	switch r.Tier {
	case holdfast.TierHot, holdfast.TierCool, holdfast.TierCold, holdfast.TierArchive:
		return nil
	case holdfast.TierInferred:
	}
	return invalid("tier", "%q is not a tier", cut(string(r.Tier))).WithHint("write hot, cool, cold or archive")
}

// tiered reports whether an item's price depends on the tier.
func (i Item) tiered() bool {
	switch i {
	case ItemStored, ItemWrite, ItemRead, ItemRetrieval:
		return true
	case ItemSnapshot, ItemList, ItemOther, ItemTraffic:
	}
	return false
}

// complete wants every price for LRS in the default region, so that everything has a price: from there it is taken when
// a region has none.
func (p *Prices) complete() error {
	var wanted []key
	for _, item := range []Item{ItemSnapshot, ItemList, ItemOther} {
		wanted = append(wanted, key{item: item, redundancy: LRS, region: p.defaultRegion})
	}
	for _, tier := range []holdfast.Tier{holdfast.TierHot, holdfast.TierCool, holdfast.TierCold, holdfast.TierArchive} {
		for _, item := range []Item{ItemStored, ItemWrite, ItemRead, ItemRetrieval} {
			if item != ItemRetrieval || tier != holdfast.TierHot {
				wanted = append(wanted, key{item: item, tier: tier, redundancy: LRS, region: p.defaultRegion})
			}
		}
	}
	seen := map[Continent]bool{}
	for _, c := range p.continents {
		if !seen[c] {
			seen[c] = true
			wanted = append(wanted, key{item: ItemTraffic, from: c})
		}
	}
	for _, k := range wanted {
		if _, ok := p.rows[k]; !ok {
			return invalid("rows", "there is no price of %s", k).WithHint("every other price is taken from there when a region has none of its own")
		}
	}
	return nil
}

// String names what a price is for.
func (k key) String() string {
	if k.item == ItemTraffic {
		return fmt.Sprintf("traffic from %s to any other continent", k.from)
	}
	return strings.Join(strings.Fields(fmt.Sprintf("%s %s %s in %s", k.item, k.tier, k.redundancy, k.region)), " ")
}

// compare puts rows into the order of Rows.
func (r PriceRow) compare(o PriceRow) int {
	return cmp.Or(cmp.Compare(r.Item, o.Item), cmp.Compare(r.Region, o.Region), cmp.Compare(r.Tier, o.Tier),
		cmp.Compare(r.Redundancy, o.Redundancy), cmp.Compare(r.From, o.From), cmp.Compare(r.To, o.To))
}

// decode reads one JSON value that fills the whole of data and has no field that into does not know.
func decode(data []byte, into any) error {
	decoder := json.NewDecoder(bytes.NewReader(data))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(into); err != nil {
		return err
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return errors.New("something follows its end")
	}
	return nil
}

// uniqueNames refuses an object that has a name twice: which of the two values counts would be a matter of the reader.
func uniqueNames(data []byte) error {
	decoder := json.NewDecoder(bytes.NewReader(data))
	var open []map[string]bool // nil for an array
	name := true               // the next text in an object is a name
	for {
		token, err := decoder.Token()
		if err != nil {
			return nil //nolint:nilerror // what is wrong, or the end, is told by whoever decodes it
		}
		inObject := len(open) > 0 && open[len(open)-1] != nil
		text, isText := token.(string)
		switch {
		case token == json.Delim('{'):
			open, name = append(open, map[string]bool{}), true
			continue
		case token == json.Delim('['):
			open = append(open, nil)
			continue
		case token == json.Delim('}'), token == json.Delim(']'):
			open = open[:len(open)-1]
			name = true
			continue
		case inObject && name && isText:
			if open[len(open)-1][text] {
				return invalid("", "the price file has the name %q twice in one place", cut(text))
			}
			open[len(open)-1][text], name = true, false
			continue
		}
		name = true
	}
}

// plain drops Go's own words from an error of package json.
func plain(err error) string { return strings.TrimPrefix(err.Error(), "json: ") }

func invalid(field, format string, args ...any) *holdfast.Error {
	return holdfast.Errorf(holdfast.KindInvalid, format, args...).WithField(field)
}

// cut keeps a foreign text short in a message.
func cut(text string) string {
	const most = 40
	if len(text) > most {
		return text[:most] + "…"
	}
	return text
}
