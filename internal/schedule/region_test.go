package schedule_test

import (
	"slices"
	"testing"
	"time"

	"github.com/holdfast-backup/holdfast/internal/schedule"
)

// TestRegionZone gives every region a zone that exists under its first name, not under that of a link to it; and protects
// what it does not know by the clock of UTC.
func TestRegionZone(t *testing.T) {
	regions := schedule.Regions()
	if !slices.IsSorted(regions) || len(regions) < 70 {
		t.Errorf("%d regions: %v", len(regions), regions)
	}
	for _, region := range regions {
		zone, known := schedule.RegionZone(region)
		if !known || load(t, zone).String() != zone {
			t.Errorf("%s: %q, %t", region, zone, known)
		}
	}
	if zone, known := schedule.RegionZone("atlantiscentral"); zone != "UTC" || known {
		t.Errorf("a region that does not exist is known by the zone %q", zone)
	}
}

// TestRegionZone_Offsets holds the table against what each region's name says of its place: how many hours it is ahead of
// UTC in January.
func TestRegionZone_Offsets(t *testing.T) {
	january := time.Date(2026, time.January, 15, 12, 0, 0, 0, time.UTC)
	placed := 0
	for hours, regions := range map[float64][]string{
		-8:  {"westus", "westus2"},
		-7:  {"westus3", "westcentralus", "usgovarizona"},
		-6:  {"centralus", "centraluseuap", "northcentralus", "southcentralus", "mexicocentral", "usgovtexas", "usdodcentral"},
		-5:  {"eastus", "eastus2", "eastus2euap", "canadacentral", "canadaeast", "usgovvirginia", "usdodeast"},
		-3:  {"brazilsouth", "brazilsoutheast", "chilecentral"},
		0:   {"northeurope", "uksouth", "ukwest"},
		1:   {"austriaeast", "belgiumcentral", "denmarkeast", "francecentral", "francesouth", "germanynorth", "germanywestcentral", "italynorth", "norwayeast", "norwaywest", "polandcentral", "spaincentral", "swedencentral", "swedensouth", "switzerlandnorth", "switzerlandwest", "westeurope"},
		2:   {"israelcentral", "southafricanorth", "southafricawest"},
		3:   {"qatarcentral"},
		4:   {"uaecentral", "uaenorth"},
		5.5: {"centralindia", "southindia", "westindia", "indiasouthcentral", "jioindiacentral", "jioindiawest"},
		7:   {"indonesiacentral"},
		8:   {"chinaeast", "chinaeast2", "chinaeast3", "chinanorth", "chinanorth2", "chinanorth3", "eastasia", "malaysiawest", "southeastasia"},
		9:   {"japaneast", "japanwest", "koreacentral", "koreasouth"},
		11:  {"australiacentral", "australiacentral2", "australiaeast", "australiasoutheast"},
		13:  {"newzealandnorth"},
	} {
		for _, region := range regions {
			zone, _ := schedule.RegionZone(region)
			placed++
			if _, offset := january.In(load(t, zone)).Zone(); float64(offset) != hours*3600 {
				t.Errorf("%s (%s) is %d seconds ahead of UTC, not %g hours", region, zone, offset, hours)
			}
		}
	}
	if all := len(schedule.Regions()); placed != all {
		t.Errorf("%d of %d regions were looked at", placed, all)
	}
}
