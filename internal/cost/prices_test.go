package cost_test

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/cost"
)

// The built-in table is a price file like any other, every row of it says where it is from, and dearer things cost more: a
// digit that slipped would show.
func TestBuiltIn(t *testing.T) {
	p := prices(t)
	rows := p.Rows()
	if p.Currency() != "USD" || p.Date() != "2025-12-03" || len(rows) < 200 {
		t.Errorf("%d rows in %s from %s on", len(rows), p.Currency(), p.Date())
	}
	for _, r := range rows {
		if !strings.HasPrefix(r.Source, "https://") || r.Price == 0 {
			t.Errorf("row %+v", r)
		}
	}
	type place struct {
		region     string
		redundancy cost.Redundancy
	}
	stored := map[place]map[holdfast.Tier]cost.Money{}
	for _, r := range rows {
		if at := (place{r.Region, r.Redundancy}); r.Item == cost.ItemStored {
			if stored[at] == nil {
				stored[at] = map[holdfast.Tier]cost.Money{}
			}
			stored[at][r.Tier] = r.Price
		}
	}
	for at, by := range stored {
		tiers := []holdfast.Tier{holdfast.TierHot, holdfast.TierCool, holdfast.TierCold, holdfast.TierArchive}
		for i := 1; i < len(tiers); i++ {
			warm, cold := by[tiers[i-1]], by[tiers[i]]
			if at.region == "francecentral" && at.redundancy == "GZRS" {
				continue // hot is not listed there, and cool is dearer than hot elsewhere
			}
			if cold > 0 && (warm < cold || warm > 10*cold) {
				t.Errorf("%v: %s costs %s, %s costs %s", at, tiers[i-1], warm, tiers[i], cold)
			}
		}
	}
}

// The table that is given away is the one that is used, and comes in a copy.
func TestBuiltInTable(t *testing.T) {
	table := cost.BuiltInTable()
	p, err := cost.ReadPrices(table)
	if err != nil || len(p.Rows()) != len(prices(t).Rows()) {
		t.Fatal(err)
	}
	clear(table)
	if _, err := cost.BuiltIn(); err != nil {
		t.Errorf("who gets the table can change it: %v", err)
	}
}

// patched is the built-in table with one text in the place of another.
func patched(t testing.TB, from, to string) []byte {
	t.Helper()
	text := string(cost.BuiltInTable())
	if !strings.Contains(text, from) {
		t.Fatalf("the table does not hold %s", from)
	}
	return []byte(strings.Replace(text, from, to, 1))
}

func TestReadPrices_Refused(t *testing.T) {
	const (
		first  = `{"item": "snapshot", "redundancy": "LRS", "region": "westeurope", "unit": "GB-month", "price": 0.05,`
		moving = `{"item": "traffic", "from": "northAmerica", "to": "northAmerica", "unit": "GB",`
	)
	row := func(text string) func(testing.TB) []byte {
		return func(t testing.TB) []byte { return patched(t, first, text) }
	}
	for _, c := range []struct {
		what  string
		data  func(testing.TB) []byte
		field string
	}{
		{"nothing", func(testing.TB) []byte { return nil }, ""},
		{"half a file", func(testing.TB) []byte { return cost.BuiltInTable()[:5000] }, ""},
		{"something behind it", func(testing.TB) []byte { return append(cost.BuiltInTable(), "{}"...) }, ""},
		{"too much", func(testing.TB) []byte { return make([]byte, 5<<20) }, ""},
		{"an unknown name", func(t testing.TB) []byte { return patched(t, `"format"`, `"version": 2, "format"`) }, ""},
		{"a name twice", func(t testing.TB) []byte { return patched(t, `"format"`, `"currency": "EUR", "format"`) }, ""},
		{"a name twice in a row", row(`{"item": "snapshot", ` + first[1:]), ""},
		{"another format", func(t testing.TB) []byte { return patched(t, `"format": 1`, `"format": 2`) }, "format"},
		{"no currency", func(t testing.TB) []byte { return patched(t, `"USD"`, `"dollars"`) }, "currency"},
		{"a region that is none", func(t testing.TB) []byte {
			return patched(t, `"defaultRegion": "westeurope"`, `"defaultRegion": "West Europe"`)
		}, "defaultRegion"},
		{"a region in no continent", func(t testing.TB) []byte {
			return patched(t, `"defaultRegion": "westeurope"`, `"defaultRegion": "atlantis"`)
		}, "defaultRegion"},
		{"a continent that is none", func(t testing.TB) []byte { return patched(t, `"oceania": [`, `"7 seas": [`) }, "continents"},
		{"a region of a continent", func(t testing.TB) []byte { return patched(t, `"southafricawest"`, `"South Africa"`) }, "continents.africa"},
		{"a region in two continents", func(t testing.TB) []byte { return patched(t, `"southafricawest"`, `"westeurope"`) }, "continents"},
		{"an item", row(strings.Replace(first, "snapshot", "snapshots", 1)), "rows[0].item"},
		{"a unit", row(strings.Replace(first, "GB-month", "GB", 1)), "rows[0].unit"},
		{"a negative price", row(strings.Replace(first, "0.05", "-0.05", 1)), "rows[0].price"},
		{"a price as text", row(strings.Replace(first, "0.05", `"0.05"`, 1)), "rows[0].price"},
		{"a price with too many digits", row(strings.Replace(first, "0.05", `0.05000000001`, 1)), "rows[0].price"},
		{"a date", row(first + ` "date": "2026-02-30", "source": "x"}, ` + first), "rows[0].date"},
		{"no source", row(first + ` "date": "2026-02-03"}, ` + first), "rows[0].source"},
		{"a long note", row(first + ` "date": "2026-02-03", "source": "x", "note": "` + strings.Repeat("x", 501) + `"}, ` + first), "rows[0].source"},
		{"an unknown name in a row", row(first + ` "vat": 19,`), "rows[0]"},
		{"a redundancy", row(strings.Replace(first, "LRS", "RAID", 1)), "rows[0].redundancy"},
		{"a tier of what has none", row(strings.Replace(first, `"redundancy"`, `"tier": "hot", "redundancy"`, 1)), "rows[0].tier"},
		{"no tier", row(`{"item": "stored", ` + first[len(`{"item": "snapshot", `):]), "rows[0].tier"},
		{"a tier left to the account", row(`{"item": "stored", "tier": "inferred", ` + first[len(`{"item": "snapshot", `):]), "rows[0].tier"},
		{"a region of a row", row(strings.Replace(first, "westeurope", "West Europe", 1)), "rows[0].region"},
		{"a region of a row in no continent", row(strings.Replace(first, "westeurope", "atlantis", 1)), "rows[0].region"},
		{"a price twice", row(first + ` "date": "2026-02-03", "source": "x"}, ` + first), "rows[1]"},
		{"snapshots that go somewhere", row(first + ` "from": "europe",`), "rows[0].from"},
		{"traffic of a region", func(t testing.TB) []byte { return patched(t, moving, moving+` "region": "eastus",`) }, "rows[262].region"},
		{"traffic from nowhere", func(t testing.TB) []byte {
			return patched(t, moving, strings.Replace(moving, `"northAmerica"`, `"atlantis"`, 1))
		}, "rows[262].from"},
		{"traffic to nowhere", func(t testing.TB) []byte {
			return patched(t, moving, strings.Replace(moving, `"to": "northAmerica"`, `"to": "atlantis"`, 1))
		}, "rows[262].to"},
		{"a price that everything else rests on", func(t testing.TB) []byte {
			return patched(t, `{"item": "stored", "tier": "cool", "redundancy": "LRS", "region": "westeurope"`, `{"item": "stored", "tier": "cool", "redundancy": "LRS", "region": "ukwest"`)
		}, "rows"},
		{"a continent that nothing leaves", func(t testing.TB) []byte {
			return patched(t, `"chilecentral"`, `"chilecentral"], "antarctica": ["mcmurdo"`)
		}, "rows"},
	} {
		_, err := cost.ReadPrices(c.data(t))
		var e *holdfast.Error
		if !errors.As(err, &e) || e.Kind != holdfast.KindInvalid || e.Field != c.field {
			t.Errorf("%s: %v, want an invalid file with field %q", c.what, err, c.field)
		}
	}
}

// Where a table has no price of its own, that of the default region stands for it and says so; of what is priced nowhere else,
// that of LRS.
func TestPrices_WhatStandsForWhat(t *testing.T) {
	for _, c := range []struct {
		what       string
		repository cost.Repository
		price      float64
		kind       cost.PriceKind
	}{
		{"its own", cost.Repository{Region: "northeurope", Tier: holdfast.TierCool, Redundancy: cost.ZRS}, 0.0125, cost.PriceValid},
		{"LRS where nothing is said", cost.Repository{Region: "northeurope", Tier: holdfast.TierCool}, 0.01, cost.PriceValid},
		{"that of the default region", cost.Repository{Region: "japaneast", Tier: holdfast.TierCool}, 0.01, cost.PriceApproximate},
		{"the same redundancy rather than the same region", cost.Repository{Region: "eastus", Tier: holdfast.TierCool, Redundancy: cost.ZRS}, 0.0131, cost.PriceApproximate},
		{"LRS where there is no such redundancy", cost.Repository{Region: "eastus", Tier: holdfast.TierArchive, Redundancy: cost.ZRS}, 0.00099, cost.PriceApproximate},
		{"hot where the account decides", cost.Repository{Region: "northeurope", Tier: holdfast.TierInferred}, 0.022, cost.PriceApproximate},
		{"a region that nobody knows", cost.Repository{Region: "atlantis", Tier: holdfast.TierHot}, 0.0196, cost.PriceApproximate},
		{"a folder", cost.Repository{}, 0, cost.PriceNotApplicable},
	} {
		c.repository.Name = "r"
		m := meter(t, func(s *cost.Setting) { s.Repositories = []cost.Repository{c.repository} })
		m.Machine(vm("a", 10), cost.Protection{}).Made(cost.Point{Kind: holdfast.PointBackup, Repository: "r", Created: begin()})
		found := false
		for _, l := range m.Report(begin().AddDate(0, 1, 0)).Months[0].Costs.Lines {
			if l.Part == cost.PartBackups {
				found = true
				if l.UnitPrice.Float() != c.price || l.Price != c.kind {
					t.Errorf("%s: %v, %s; want %v, %s", c.what, l.UnitPrice.Float(), l.Price, c.price, c.kind)
				}
			}
		}
		if !found {
			t.Errorf("%s: no line", c.what)
		}
	}
}

// Bytes within a region are free; others are priced by the continents that they leave and go to.
func TestPrices_Traffic(t *testing.T) {
	for _, c := range []struct {
		from, to string
		price    float64
		kind     cost.PriceKind
	}{
		{"westeurope", "northeurope", 0.02, cost.PriceValid},
		{"westeurope", "eastus", 0.05, cost.PriceValid},
		{"brazilsouth", "eastus", 0.16, cost.PriceValid},
		{"japaneast", "koreacentral", 0.08, cost.PriceValid},
		{"atlantis", "westeurope", 0.02, cost.PriceApproximate},
		{"westeurope", "atlantis", 0.05, cost.PriceApproximate},
		{"westeurope", "westeurope", 0, ""},
	} {
		m := meter(t, func(s *cost.Setting) {
			s.Repositories = []cost.Repository{{Name: "r", Region: c.to, Tier: holdfast.TierHot}}
		})
		machine := vm("a", 10)
		machine.Region = c.from
		m.Machine(machine, cost.Protection{}).Made(cost.Point{Kind: holdfast.PointBackup, Repository: "r", Created: begin()})
		var line cost.Line
		for _, l := range m.Report(begin().AddDate(0, 1, 0)).Months[0].Costs.Lines {
			if l.Part == cost.PartTraffic {
				line = l
			}
		}
		if line.UnitPrice.Float() != c.price || line.Price != c.kind {
			t.Errorf("from %s to %s: %v %s, want %v %s", c.from, c.to, line.UnitPrice.Float(), line.Price, c.price, c.kind)
		}
	}
}

// Whatever bytes come, a table that is taken is complete: everything has a price, none of them negative; and the rest is refused with
// KindInvalid.
func FuzzReadPrices(f *testing.F) {
	f.Add(cost.BuiltInTable())
	f.Add([]byte(`{"format":1,"currency":"USD","defaultRegion":"westeurope","continents":{"europe":["westeurope"]},"rows":[]}`))
	f.Add([]byte(`{"a":{"b":[1,{"c":"d"},"e"],"b":2}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		p, err := cost.ReadPrices(data)
		if err != nil {
			if !holdfast.IsKind(err, holdfast.KindInvalid) {
				t.Fatalf("%v is of kind %s", err, holdfast.KindOf(err))
			}
			return
		}
		for _, r := range p.Rows() {
			if _, err := json.Marshal(r); err != nil || r.Price < 0 {
				t.Fatalf("row %+v, %v", r, err)
			}
		}
		m, err := cost.NewMeter(cost.Setting{Prices: p, Repositories: []cost.Repository{{Name: "r", Region: "elsewhere", Tier: holdfast.TierCold}}, Assumptions: cost.DefaultAssumptions()}, begin())
		if err != nil {
			t.Fatal(err)
		}
		m.Machine(vm("a", 1), cost.Protection{}).Made(cost.Point{Kind: holdfast.PointBackup, Repository: "r", Created: begin()})
		for _, l := range m.Report(begin().AddDate(0, 1, 0)).Months[0].Costs.Lines {
			if l.Price == cost.PriceUnknown || l.Cost < 0 {
				t.Fatalf("line %+v", l)
			}
		}
	})
}
