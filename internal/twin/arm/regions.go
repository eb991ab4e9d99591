package arm

import "strings"

// Region is a location of the platform.
type Region struct {
	Name        string // as ARM writes it
	DisplayName string
	Zones       []string // logical zones; none in regions without availability zones
}

// Regions returns the locations of the public cloud (azure.md §1.6: table of 2025-09-23).
func Regions() []Region {
	var regions []Region
	for _, name := range zonedRegions {
		regions = append(regions, Region{Name: NormalLocation(name), DisplayName: name, Zones: []string{"1", "2", "3"}})
	}
	for _, name := range plainRegions {
		regions = append(regions, Region{Name: NormalLocation(name), DisplayName: name})
	}
	return regions
}

// FindRegion finds a region by its ARM name or its display name.
func FindRegion(location string) (Region, bool) {
	for _, region := range Regions() {
		if region.Name == NormalLocation(location) {
			return region, true
		}
	}
	return Region{}, false
}

// NormalLocation turns "West Europe" into westeurope.
func NormalLocation(location string) string {
	return strings.ToLower(strings.ReplaceAll(location, " ", ""))
}

var zonedRegions = []string{
	"Australia East", "Austria East", "Belgium Central", "Brazil South", "Canada Central", "Central India", "Central US",
	"Chile Central", "East Asia", "East US", "East US 2", "France Central", "Germany West Central", "Indonesia Central",
	"Israel Central", "Italy North", "Japan East", "Japan West", "Korea Central", "Malaysia West", "Mexico Central",
	"New Zealand North", "North Europe", "Norway East", "Poland Central", "Qatar Central", "South Africa North",
	"South Central US", "Southeast Asia", "Spain Central", "Sweden Central", "Switzerland North", "UAE North", "UK South",
	"West Europe", "West US 2", "West US 3",
}

var plainRegions = []string{
	"Australia Central", "Australia Central 2", "Australia Southeast", "Brazil Southeast", "Canada East", "France South",
	"Germany North", "Korea South", "North Central US", "Norway West", "South Africa West", "South India",
	"Switzerland West", "UAE Central", "UK West", "West Central US", "West India", "West US",
}
