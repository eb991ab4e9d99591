package compute

import (
	"fmt"
	"net/http"
	"strconv"
	"strings"

	"github.com/holdfast-backup/holdfast/internal/twin/arm"
	"github.com/holdfast-backup/holdfast/internal/twin/state"
)

// Size is a VM size.
type Size struct {
	Name         string
	Family       string
	VCPUs        int
	MemoryGB     float64
	DataDisksMax int
	Premium      bool // takes Premium SSD
	Ultra        bool // may take Ultra disks
}

// series is a family whose sizes grow by vCPUs.
type series struct {
	format    string // of the name, with %d for the vCPUs
	family    string
	vcpus     []int
	gbPerVCPU float64
	premium   bool
	ultra     bool
}

var sizeSeries = []series{
	{"Standard_D%ds_v5", "standardDSv5Family", []int{2, 4, 8, 16, 32, 48, 64, 96}, 4, true, true},
	{"Standard_D%d_v5", "standardDv5Family", []int{2, 4, 8, 16, 32, 48, 64, 96}, 4, false, false},
	{"Standard_D%das_v5", "standardDASv5Family", []int{2, 4, 8, 16, 32, 48, 64, 96}, 4, true, true},
	{"Standard_D%dads_v5", "standardDADSv5Family", []int{2, 4, 8, 16, 32, 48, 64, 96}, 4, true, true},
	{"Standard_D%dds_v5", "standardDDSv5Family", []int{2, 4, 8, 16, 32, 48, 64, 96}, 4, true, true},
	{"Standard_D%dps_v5", "standardDPSv5Family", []int{2, 4, 8, 16, 32, 48, 64}, 4, true, true},
	{"Standard_D%ds_v6", "standardDSv6Family", []int{2, 4, 8, 16, 32, 48, 64, 96}, 4, true, true},
	{"Standard_D%ds_v7", "standardDSv7Family", []int{2, 4, 8, 16, 32, 48, 64, 96}, 4, true, true},
	{"Standard_D%dads_v6", "standardDadsv6Family", []int{2, 4, 8, 16, 32, 48, 64, 96}, 4, true, true},
	{"Standard_D%das_v6", "standardDasv6Family", []int{2, 4, 8, 16, 32, 48, 64, 96}, 4, true, true},
	{"Standard_D%dls_v5", "standardDLSv5Family", []int{2, 4, 8, 16, 32, 48, 64, 96}, 2, true, true},
	{"Standard_D%das_v4", "standardDASv4Family", []int{2, 4, 8, 16, 32, 48, 64, 96}, 4, true, true},
	{"Standard_D%dds_v4", "standardDDSv4Family", []int{2, 4, 8, 16, 32, 48, 64}, 4, true, true},
	{"Standard_D%ds_v4", "standardDSv4Family", []int{2, 4, 8, 16, 32, 48, 64}, 4, true, true},
	{"Standard_D%ds_v3", "standardDSv3Family", []int{2, 4, 8, 16, 32, 48, 64}, 4, true, true},
	{"Standard_D%d_v3", "standardDv3Family", []int{2, 4, 8, 16, 32, 48, 64}, 4, false, false},
	{"Standard_E%ds_v5", "standardESv5Family", []int{2, 4, 8, 16, 20, 32, 48, 64, 96}, 8, true, true},
	{"Standard_E%das_v5", "standardEASv5Family", []int{2, 4, 8, 16, 20, 32, 48, 64, 96}, 8, true, true},
	{"Standard_E%dds_v5", "standardEDSv5Family", []int{2, 4, 8, 16, 20, 32, 48, 64, 96}, 8, true, true},
	{"Standard_E%dads_v5", "standardEADSv5Family", []int{2, 4, 8, 16, 20, 32, 48, 64, 96}, 8, true, true},
	{"Standard_E%ds_v6", "standardESv6Family", []int{2, 4, 8, 16, 20, 32, 48, 64, 96}, 8, true, true},
	{"Standard_E%ds_v4", "standardESv4Family", []int{2, 4, 8, 16, 20, 32, 48, 64}, 8, true, true},
	{"Standard_E%ds_v3", "standardESv3Family", []int{2, 4, 8, 16, 20, 32, 48, 64}, 8, true, true},
	{"Standard_F%ds_v2", "standardFSv2Family", []int{2, 4, 8, 16, 32, 48, 64, 72}, 2, true, true},
	{"Standard_L%ds_v3", "standardLSv3Family", []int{8, 16, 32, 48, 64, 80}, 8, true, true},
}

var singleSizes = []Size{
	{"Standard_B1s", "standardBSFamily", 1, 1, 2, true, false},
	{"Standard_B1ms", "standardBSFamily", 1, 2, 2, true, false},
	{"Standard_B2s", "standardBSFamily", 2, 4, 4, true, false},
	{"Standard_B2ms", "standardBSFamily", 2, 8, 4, true, false},
	{"Standard_B4ms", "standardBSFamily", 4, 16, 8, true, false},
	{"Standard_B8ms", "standardBSFamily", 8, 32, 16, true, false},
	{"Standard_B2s_v2", "standardBsv2Family", 2, 8, 4, true, false},
	{"Standard_B4s_v2", "standardBsv2Family", 4, 16, 8, true, false},
	{"Standard_A1_v2", "standardAv2Family", 1, 2, 2, false, false},
	{"Standard_A2_v2", "standardAv2Family", 2, 4, 4, false, false},
	{"Standard_A4_v2", "standardAv2Family", 4, 8, 8, false, false},
	{"Standard_DS1_v2", "standardDSv2Family", 1, 3.5, 4, true, false},
	{"Standard_DS2_v2", "standardDSv2Family", 2, 7, 8, true, false},
	{"Standard_DS3_v2", "standardDSv2Family", 4, 14, 16, true, false},
	{"Standard_DS4_v2", "standardDSv2Family", 8, 28, 32, true, false},
	{"Standard_D1_v2", "standardDv2Family", 1, 3.5, 4, false, false},
	{"Standard_D2_v2", "standardDv2Family", 2, 7, 8, false, false},
	{"Standard_M64s", "standardMSFamily", 64, 1024, 64, true, true},
}

// Sizes returns the VM sizes that the twin knows: a choice of the platform's common ones, in every region.
func Sizes() []Size {
	sizes := append([]Size{}, singleSizes...)
	for _, s := range sizeSeries {
		for _, vcpus := range s.vcpus {
			sizes = append(sizes, Size{
				Name: fmt.Sprintf(s.format, vcpus), Family: s.family, VCPUs: vcpus, MemoryGB: s.gbPerVCPU * float64(vcpus),
				DataDisksMax: min(32, vcpus*2), Premium: s.premium, Ultra: s.ultra,
			})
		}
	}
	return sizes
}

// findSize finds a size by name in any casing.
func findSize(name string) (Size, bool) {
	for _, size := range Sizes() {
		if strings.EqualFold(size.Name, name) {
			return size, true
		}
	}
	return Size{}, false
}

func (p *Provider) routes() []arm.Route {
	const base = "/subscriptions/{subscription}/providers/Microsoft.Compute/"
	versions := arm.Versions{Oldest: "2017-03-30", Newest: "2026-04-01", Known: []string{"2021-07-01", "2019-04-01", "2017-09-01"}}
	return []arm.Route{
		{Method: http.MethodGet, Template: base + "skus", Versions: versions, Action: namespace + "/skus/read", Serve: listSKUs},
		{Method: http.MethodGet, Template: base + "locations/{location}/usages", Versions: machineVersions(), Action: namespace + "/locations/usages/read", Serve: p.listUsages},
		{Method: http.MethodGet, Template: base + "locations/{location}/vmSizes", Versions: machineVersions(), Action: namespace + "/locations/vmSizes/read", Serve: listSizes},
	}
}

// listSKUs lists sizes, disk and snapshot SKUs, one entry per region as the platform does; $filter takes one location.
func listSKUs(call *arm.Call) (arm.Answer, error) {
	wanted := call.Query.Get("$filter")
	location := ""
	if wanted != "" {
		parts := strings.Fields(wanted)
		if len(parts) != 3 || !strings.EqualFold(parts[0], "location") || !strings.EqualFold(parts[1], "eq") {
			return arm.Answer{}, arm.Errorf(http.StatusBadRequest, "InvalidFilter", "The $filter '%s' is not supported: it takes location eq '...' only.", wanted).At("$filter")
		}
		location = arm.NormalLocation(strings.Trim(parts[2], "'"))
	}
	value := []any{}
	for _, region := range arm.Regions() {
		if location != "" && region.Name != location {
			continue
		}
		value = append(value, regionSKUs(region)...)
	}
	return call.PageOf(value)
}

func regionSKUs(region arm.Region) []any {
	var skus []any
	for _, size := range Sizes() {
		skus = append(skus, sizeSKU(size, region))
	}
	zoned := len(region.Zones) > 0
	for _, name := range []string{"Standard_LRS", "StandardSSD_LRS", "Premium_LRS", "UltraSSD_LRS", "PremiumV2_LRS", "StandardSSD_ZRS", "Premium_ZRS"} {
		if zoned || !strings.HasSuffix(name, "_ZRS") && !isLarge(name) {
			skus = append(skus, plainSKU("disks", name, region))
		}
	}
	for _, name := range []string{"Standard_LRS", "Premium_LRS", "Standard_ZRS"} {
		if zoned || !strings.HasSuffix(name, "_ZRS") {
			skus = append(skus, plainSKU("snapshots", name, region))
		}
	}
	return skus
}

func plainSKU(resourceType, name string, region arm.Region) state.Object {
	tier, _, _ := strings.Cut(name, "_")
	sku := state.Object{"resourceType": resourceType, "name": name, "tier": tier}
	sku.Set("locations", []string{region.Name})
	info := state.Object{"location": region.Name}
	info.Set("zones", append([]string{}, region.Zones...))
	info.Set("zoneDetails", []string{})
	sku.Set("locationInfo", []state.Object{info})
	sku.Set("restrictions", []string{})
	return sku
}

func sizeSKU(size Size, region arm.Region) state.Object {
	sku := plainSKU("virtualMachines", size.Name, region)
	sku.Set("tier", "Standard")
	sku.Set("size", strings.TrimPrefix(size.Name, "Standard_"))
	sku.Set("family", size.Family)
	var capabilities []state.Object
	for _, pair := range [][2]string{
		{"vCPUs", strconv.Itoa(size.VCPUs)},
		{"vCPUsAvailable", strconv.Itoa(size.VCPUs)},
		{"MemoryGB", strconv.FormatFloat(size.MemoryGB, 'f', -1, 64)},
		{"MaxDataDiskCount", strconv.Itoa(size.DataDisksMax)},
		{"PremiumIO", yesNo(size.Premium)},
		{"UltraSSDAvailable", yesNo(size.Ultra && len(region.Zones) > 0)},
		{"HyperVGenerations", "V1,V2"},
		{"CpuArchitectureType", architecture(size)},
		{"AcceleratedNetworkingEnabled", yesNo(size.VCPUs > 1)},
	} {
		capabilities = append(capabilities, state.Object{"name": pair[0], "value": pair[1]})
	}
	sku.Set("capabilities", capabilities)
	return sku
}

func architecture(size Size) string {
	if strings.Contains(size.Name, "ps_v") {
		return "Arm64"
	}
	return "x64"
}

func yesNo(flag bool) string {
	if flag {
		return "True"
	}
	return "False"
}

func listSizes(call *arm.Call) (arm.Answer, error) {
	value := []any{}
	for _, size := range Sizes() {
		value = append(value, map[string]any{"name": size.Name, "numberOfCores": size.VCPUs, "memoryInMB": int(size.MemoryGB * 1024), "maxDataDiskCount": size.DataDisksMax, "osDiskSizeInMB": 1047552, "resourceDiskSizeInMB": 0})
	}
	return call.PageOf(value)
}

// coresDefault is the vCPU quota of a location where none is declared.
const coresDefault = 350

// SetQuota limits the vCPUs of a location of a subscription.
func SetQuota(tx *state.Tx, subscription, location string, cores int) {
	doc := &state.Document{ID: quotaID(subscription, location), Hidden: state.Object{}}
	doc.Hidden.Set("cores", cores)
	tx.Put(doc)
}

func quotaID(subscription, location string) string {
	return "quota/" + subscription + "/" + arm.NormalLocation(location)
}

func coresLimit(view *state.View, subscription, location string) int {
	if doc := view.Get(quotaID(subscription, location)); doc != nil {
		return int(doc.Hidden.Int("cores"))
	}
	return coresDefault
}

// coresUsed counts the vCPUs of a location's VMs, running or not, and the VMs; except leaves one out.
func coresUsed(view *state.View, subscription, location, except string) (cores, machines int) {
	for doc := range view.Below("/subscriptions/" + strings.ToLower(subscription) + "/resourcegroups/") {
		if !isKind(doc.ID, machineType) || doc.Body.Text("location") != location || doc.Key() == state.Key(except) {
			continue
		}
		size, _ := findSize(doc.Body.Text("properties.hardwareProfile.vmSize"))
		cores, machines = cores+size.VCPUs, machines+1
	}
	return cores, machines
}

func (p *Provider) listUsages(call *arm.Call) (arm.Answer, error) {
	subscription := call.Params["subscription"]
	region, known := arm.FindRegion(call.Params["location"])
	if !known {
		return arm.Answer{}, arm.Errorf(http.StatusBadRequest, "NoRegisteredProviderFound", "The location '%s' is not one of the provider's.", call.Params["location"])
	}
	cores, machines := coresUsed(call.View, subscription, region.Name, "")
	usage := func(name, text string, current, limit int) any {
		return map[string]any{"unit": "Count", "currentValue": current, "limit": limit, "name": map[string]any{"value": name, "localizedValue": text}}
	}
	return call.PageOf([]any{
		usage("availabilitySets", "Availability Sets", 0, 2500),
		usage("cores", "Total Regional vCPUs", cores, coresLimit(call.View, subscription, region.Name)),
		usage("virtualMachines", "Virtual Machines", machines, 25000),
	})
}
