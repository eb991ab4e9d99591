package schedule

import (
	"maps"
	"slices"
	"time"
)

// RegionZone returns the IANA zone in which a region of Azure lies; the region's name is Azure's own, in lower case. For a
// region that the table does not know, zone is UTC and known is false: its machines are protected all the same, at hours
// that the caller should point out.
func RegionZone(region string) (zone string, known bool) {
	if zone, known = regionZones[region]; known {
		return zone, true
	}
	return time.UTC.String(), false
}

// Regions returns the regions that RegionZone knows, sorted.
func Regions() []string { return slices.Sorted(maps.Keys(regionZones)) }

// regionZones places the regions by their physical location: of the public cloud as Microsoft's "Azure regions list"
// (learn.microsoft.com/azure/reliability/regions-list) states it in its revision of 20 August 2026, with the paired and the
// early-access regions that it leaves out; of China as docs.azure.cn/reliability/regions-list does; of Azure Government by
// the states that the regions are named after, the Department of Defense's being in Iowa and Virginia. In a state or a
// country of several zones it is the zone of the named city or, where none is named, of the region's data centres.
var regionZones = map[string]string{
	// Americas
	"brazilsouth":     "America/Sao_Paulo",
	"brazilsoutheast": "America/Sao_Paulo", // Rio de Janeiro
	"canadacentral":   "America/Toronto",
	"canadaeast":      "America/Toronto", // Quebec
	"centralus":       "America/Chicago", // Iowa
	"centraluseuap":   "America/Chicago", // early access, beside centralus
	"chilecentral":    "America/Santiago",
	"eastus":          "America/New_York", // Virginia
	"eastus2":         "America/New_York", // Virginia
	"eastus2euap":     "America/New_York", // early access, beside eastus2
	"mexicocentral":   "America/Mexico_City",
	"northcentralus":  "America/Chicago",     // Illinois
	"southcentralus":  "America/Chicago",     // Texas
	"westcentralus":   "America/Denver",      // Wyoming
	"westus":          "America/Los_Angeles", // California
	"westus2":         "America/Los_Angeles", // Washington
	"westus3":         "America/Phoenix",

	// Europe
	"austriaeast":        "Europe/Vienna",
	"belgiumcentral":     "Europe/Brussels",
	"denmarkeast":        "Europe/Copenhagen",
	"francecentral":      "Europe/Paris",
	"francesouth":        "Europe/Paris", // Marseille
	"germanynorth":       "Europe/Berlin",
	"germanywestcentral": "Europe/Berlin", // Frankfurt
	"italynorth":         "Europe/Rome",   // Milan
	"northeurope":        "Europe/Dublin",
	"norwayeast":         "Europe/Oslo",
	"norwaywest":         "Europe/Oslo",
	"polandcentral":      "Europe/Warsaw",
	"spaincentral":       "Europe/Madrid",
	"swedencentral":      "Europe/Stockholm", // Gävle
	"swedensouth":        "Europe/Stockholm", // the pair of swedencentral
	"switzerlandnorth":   "Europe/Zurich",
	"switzerlandwest":    "Europe/Zurich", // Geneva
	"uksouth":            "Europe/London",
	"ukwest":             "Europe/London", // Cardiff
	"westeurope":         "Europe/Amsterdam",

	// Middle East and Africa
	"israelcentral":    "Asia/Jerusalem",
	"qatarcentral":     "Asia/Qatar",
	"southafricanorth": "Africa/Johannesburg",
	"southafricawest":  "Africa/Johannesburg", // Cape Town
	"uaecentral":       "Asia/Dubai",          // Abu Dhabi
	"uaenorth":         "Asia/Dubai",

	// Asia and the Pacific
	"australiacentral":   "Australia/Sydney", // Canberra
	"australiacentral2":  "Australia/Sydney", // Canberra
	"australiaeast":      "Australia/Sydney", // New South Wales
	"australiasoutheast": "Australia/Melbourne",
	"centralindia":       "Asia/Kolkata", // Pune
	"eastasia":           "Asia/Hong_Kong",
	"indiasouthcentral":  "Asia/Kolkata", // Hyderabad
	"indonesiacentral":   "Asia/Jakarta",
	"japaneast":          "Asia/Tokyo",
	"japanwest":          "Asia/Tokyo",   // Osaka
	"jioindiacentral":    "Asia/Kolkata", // Nagpur, run by Jio
	"jioindiawest":       "Asia/Kolkata", // Jamnagar, run by Jio
	"koreacentral":       "Asia/Seoul",
	"koreasouth":         "Asia/Seoul", // Busan
	"malaysiawest":       "Asia/Kuala_Lumpur",
	"newzealandnorth":    "Pacific/Auckland",
	"southeastasia":      "Asia/Singapore",
	"southindia":         "Asia/Kolkata", // Chennai
	"westindia":          "Asia/Kolkata", // Mumbai

	// Azure Government
	"usdodcentral":  "America/Chicago",  // Iowa
	"usdodeast":     "America/New_York", // Virginia
	"usgovarizona":  "America/Phoenix",
	"usgovtexas":    "America/Chicago",
	"usgovvirginia": "America/New_York",

	// China
	"chinaeast":   "Asia/Shanghai",
	"chinaeast2":  "Asia/Shanghai",
	"chinaeast3":  "Asia/Shanghai",
	"chinanorth":  "Asia/Shanghai",
	"chinanorth2": "Asia/Shanghai",
	"chinanorth3": "Asia/Shanghai",
}
