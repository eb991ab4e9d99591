package azure_test

import (
	"net/http"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/azure"
	"github.com/holdfast-backup/holdfast/internal/azure/azuretest"
	"github.com/holdfast-backup/holdfast/internal/clock"
	"github.com/holdfast-backup/holdfast/internal/twin/estate"
	"github.com/holdfast-backup/holdfast/internal/twin/fault"
)

// requests counts what a client asks for, by the path without its subscription.
type requests struct {
	next http.RoundTripper

	mu    sync.Mutex
	paths []string // guarded by mu
}

func (r *requests) wrap(next http.RoundTripper) http.RoundTripper {
	r.next = next
	return r
}

func (r *requests) RoundTrip(request *http.Request) (*http.Response, error) {
	r.mu.Lock()
	r.paths = append(r.paths, strings.TrimPrefix(request.URL.Path, "/subscriptions/"+azuretest.Subscription))
	r.mu.Unlock()
	return r.next.RoundTrip(request)
}

// count returns how many requests were made for paths that hold part.
func (r *requests) count(part string) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	n := 0
	for _, path := range r.paths {
		if strings.Contains(path, part) {
			n++
		}
	}
	return n
}

// odd is a machine with one disk of each sort that cannot be backed up.
func odd() estate.VirtualMachine {
	return estate.VirtualMachine{
		Name: "odd-1", Zone: "2", OSDisk: estate.Disk{Name: "odd-1-os", SizeGiB: 30, Ephemeral: true},
		DataDisks: []estate.Disk{
			{LUN: 0, Name: "denied", SizeGiB: 8, SKU: "Premium_LRS", NetworkAccessPolicy: "DenyAll"},
			{LUN: 1, Name: "private", SizeGiB: 8, SKU: "Premium_LRS", NetworkAccessPolicy: "AllowPrivate"},
			{LUN: 2, Name: "shared", SizeGiB: 256, SKU: "Premium_LRS", Shared: true},
			{LUN: 3, Name: "large-sectors", SizeGiB: 8, SKU: "UltraSSD_LRS", LogicalSectorBytes: 4096},
			{LUN: 10, Name: "plain", SizeGiB: 8, SKU: "UltraSSD_LRS", LogicalSectorBytes: 512},
		},
	}
}

// inventoryOfTheTests is what is to be seen of web and odd.
func inventoryOfTheTests(at time.Time) holdfast.Inventory {
	disk := func(lun holdfast.LUN, name string, gib int64, sku, refused string) holdfast.InventoryDisk {
		return holdfast.InventoryDisk{LUN: lun, Name: name, SizeBytes: gib << 30, SKU: sku, Refused: refused}
	}
	vm := holdfast.InventoryVM{Region: "westeurope", Size: "Standard_D4s_v5", OS: "Linux", Power: "running"}
	first, second := vm, vm
	first.ID, first.Name, first.Zone = azuretest.Machine("odd-1"), "odd-1", "2"
	first.Disks = []holdfast.InventoryDisk{
		disk(holdfast.OSDisk, "odd-1-os", 30, "", "is an ephemeral OS disk, which has no snapshots"),
		disk("0", "denied", 8, "Premium_LRS", "may not be exported (networkAccessPolicy is DenyAll)"),
		disk("1", "private", 8, "Premium_LRS", "may be exported through a private endpoint only (networkAccessPolicy is AllowPrivate)"),
		disk("2", "shared", 256, "Premium_LRS", "is a shared disk (maxShares > 1), which is written by several machines"),
		disk("3", "large-sectors", 8, "UltraSSD_LRS", "has sectors of 4096 bytes, which Azure exports as VHDX"),
		disk("10", "plain", 8, "UltraSSD_LRS", ""),
	}
	second.ID, second.Name, second.Zone, second.Tags = azuretest.Machine("web-1"), "web-1", "1", map[string]string{"env": "prod"}
	second.Disks = []holdfast.InventoryDisk{disk(holdfast.OSDisk, "web-1-os", 64, "Premium_LRS", ""), disk("4", "web-1-data", 16, "StandardSSD_LRS", "")}
	return holdfast.Inventory{At: at, VMs: []holdfast.InventoryVM{first, second}}
}

// TestInventory proves that sizes, SKUs and refusals of disks come with the machines, at the price of one list of disks for
// a subscription, through its pages; that they come disk by disk where the list is refused; and that a disk which is gone by
// then is left out.
func TestInventory_DescribesDisksByOneList(t *testing.T) {
	c := azuretest.Start(t, azuretest.Estate(web(), odd()), azuretest.Options{PageSize: 2})
	now := clock.NewManual(time.Date(2026, 3, 1, 12, 0, 0, 5, time.FixedZone("", 3600)))
	take := func() (holdfast.Inventory, *requests) {
		t.Helper()
		var seen requests
		got, err := c.Client(t, azuretest.Wrapped(seen.wrap), func(o *azure.Options) { o.Clock = now }).Inventory(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if !slices.Contains(got.Zonal, "westeurope") || slices.Contains(got.Zonal, "westus") || !slices.IsSorted(got.Zonal) {
			t.Errorf("zonal regions %v", got.Zonal)
		}
		got.Zonal = nil
		return got, &seen
	}
	want := inventoryOfTheTests(time.Date(2026, 3, 1, 11, 0, 0, 0, time.UTC))
	got, seen := take()
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
	if lists, reads := seen.count("/providers/Microsoft.Compute/disks"), seen.count("/disks/"); lists != 4 || reads != 0 {
		t.Errorf("%d requests for pages of disks and %d for single ones, want 4 and 0", lists, reads)
	}

	noList := fault.Rule{On: fault.ARM, Path: "/subscriptions/*/providers/Microsoft.Compute/disks", Fault: fault.Error, Status: 403, Code: "AuthorizationFailed"}
	behave := c.Misbehave(t, noList)
	got, seen = take()
	behave()
	if !reflect.DeepEqual(got, want) || seen.count("/disks/") != 7 {
		t.Errorf("without the list, by %d reads: %+v\nwant %+v", seen.count("/disks/"), got, want)
	}

	behave = c.Misbehave(t, noList, fault.Rule{On: fault.ARM, Path: "*/disks/plain", Fault: fault.Error, Status: 404, Code: "ResourceNotFound"})
	got, _ = take()
	behave()
	want.VMs[0].Disks = want.VMs[0].Disks[:5]
	if !reflect.DeepEqual(got, want) {
		t.Errorf("with a disk that is gone: %+v\nwant %+v", got, want)
	}
}

// TestInventory_Zones proves that the regions with zones are asked for, and that the dated table stands in where the identity
// may not ask. (A region of the table that the twin does not know of tells the two apart.)
func TestInventory_ZonesAreAskedFor(t *testing.T) {
	c := azuretest.Start(t, azuretest.Estate(), azuretest.Options{})
	for name, refused := range map[string]bool{"asked": false, "refused": true} {
		t.Run(name, func(t *testing.T) {
			if refused {
				defer c.Misbehave(t, fault.Rule{On: fault.ARM, Path: "*/locations", Fault: fault.Error, Status: 403, Code: "AuthorizationFailed"})()
			}
			got, err := c.Client(t).Inventory(t.Context())
			if err != nil || len(got.VMs) != 0 || got.VMs == nil {
				t.Fatalf("%+v, %v", got, err)
			}
			if !slices.Contains(got.Zonal, "northeurope") || slices.Contains(got.Zonal, "chinanorth3") != refused {
				t.Errorf("zonal regions %v", got.Zonal)
			}
		})
	}
}
