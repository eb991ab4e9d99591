package inventory_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/inventory"
)

const web = "/subscriptions/s/resourceGroups/g/providers/Microsoft.Compute/virtualMachines/web-1"

// TestParse_ReadsWhatTheTypePrints proves that every inventory survives being printed and read, the empty one included.
func TestParse_ReadsWhatTheTypePrints(t *testing.T) {
	full := holdfast.Inventory{
		At: time.Date(2026, 3, 1, 12, 0, 0, 5000, time.UTC), Zonal: []string{"northeurope", "westeurope"},
		VMs: []holdfast.InventoryVM{
			{ID: web, Name: "web-1", Region: "westeurope", Disks: []holdfast.InventoryDisk{}},
			{
				ID: web + "0", Name: "other name", Region: "westus2", Zone: "1", Size: "Standard_D2s_v5", OS: "Windows", Power: "deallocated",
				Tags: map[string]string{"a=b": "c, \"d\"", "Env": ""},
				Disks: []holdfast.InventoryDisk{
					{LUN: holdfast.OSDisk, Name: "os", SizeBytes: 32 << 30, SKU: "Premium_LRS"}, {LUN: "63", Name: "data", SizeBytes: 1<<63 - 1, Refused: "is a shared disk"},
				},
			},
		},
	}
	for name, want := range map[string]holdfast.Inventory{"full": full, "empty": {Zonal: []string{}, VMs: []holdfast.InventoryVM{}}} {
		text, err := json.Marshal(want)
		if err != nil {
			t.Fatal(err)
		}
		got, err := inventory.Parse(name, text)
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %v\ngot  %+v\nwant %+v", name, err, got, want)
		}
	}
	if got, err := inventory.Parse("nil slices", []byte(`{"at":"0001-01-01T00:00:00Z","zonal":null,"vms":null}`)); err != nil || got.VMs == nil || got.Zonal == nil {
		t.Errorf("%+v, %v", got, err)
	}
}

// TestParse_FillsIn proves that what a person may leave out has its value, and that machines come sorted whatever the case
// of their ids.
func TestParse_FillsIn(t *testing.T) {
	got, err := inventory.Parse("f", []byte(`{"vms":[{"id":"`+web+`","region":"westeurope"},{"region":"westeurope","id":"`+strings.ToUpper(web[:len(web)-5])+`app-1"}]}`))
	if err != nil || len(got.VMs) != 2 || got.VMs[0].Name != "app-1" || got.VMs[1].Name != "web-1" || got.VMs[0].Disks == nil {
		t.Errorf("%+v, %v", got, err)
	}
}

// TestParse_Refuses has a row for every mistake, with the place and the field that the error names.
func TestParse_Refuses(t *testing.T) {
	machine := func(fields string) string {
		return "{\"vms\": [\n  {\"id\": \"" + web + "\", \"region\": \"westeurope\"" + fields + "}\n]}"
	}
	disk := func(fields string) string { return machine(",\n   \"disks\": [{" + fields + "}]") }
	for _, c := range []struct{ name, text, place, field, says string }{
		{"empty file", "", "f:1:1", "", "not JSON"},
		{"no object", "[]", "f:1:1", "", "an object is wanted, not a list"},
		{"cut off", "{\"vms\": [\n", "f:2:1", "vms", "not JSON"},
		{"no JSON", "{\n \"vms\": [}]}", "f:2:10", "vms", "not JSON"},
		{"missing", `{"at": "2026-03-01T12:00:00Z"}`, "f:1:30", "vms", "missing"},
		{"unknown field", "{\"vms\": [],\n \"vm\": []}", "f:2:2", "vm", "unknown field"},
		{"field in another case", `{"VMs": []}`, "f:1:2", "VMs", "unknown field"},
		{"field twice", `{"vms": [], "vms": []}`, "f:1:13", "vms", "twice"},
		{"something follows", "{\"vms\": []}\n {}", "f:2:2", "", "follows"},
		{"time", `{"at": "yesterday", "vms": []}`, "f:1:8", "at", "not a time"},
		{"zonal", `{"zonal": ["West Europe"], "vms": []}`, "f:1:12", "zonal[0]", "not the name of a region"},
		{"zonal of numbers", `{"zonal": [1], "vms": []}`, "f:1:12", "zonal[0]", "text in quotation marks is wanted, not 1"},
		{"no id", `{"vms": [{"region": "westeurope"}]}`, "f:1:33", "vms[0].id", "missing"},
		{"no region", `{"vms": [{"id": "` + web + `"}]}`, "f:1:102", "vms[0].region", "missing"},
		{"id of a disk", `{"vms": [{"id": "` + strings.Replace(web, "virtualMachines", "disks", 1) + `"}]}`, "f:1:17", "vms[0].id", "not the id of a virtual machine"},
		{"no id at all", `{"vms": [{"id": "web-1"}]}`, "f:1:17", "vms[0].id", "not the id of a virtual machine"},
		{"id twice", "{\"vms\": [{\"id\": \"" + web + "\", \"region\": \"westeurope\"},\n {\"id\": \"" + strings.ToLower(web) + "\"}]}", "f:2:9", "vms[1].id", "is vms[0] already"},
		{"region", `{"vms": [{"region": "westEurope"}]}`, "f:1:21", "vms[0].region", "not the name of a region"},
		{"tag that is no text", machine(`, "tags": {"a": 1}`), "f:2:135", "vms[0].tags.a", "text"},
		{"tag twice but for case", machine(",\n \"tags\": {\"env\": \"a\", \"Env\": \"b\"}"), "f:3:23", "vms[0].tags.Env", "twice"},
		{"unknown field of a disk", disk(`"lun": "os", "sizeBytes": 1, "sizeGiB": 1`), "f:3:44", "vms[0].disks[0].sizeGiB", "unknown field"},
		{"LUN", disk(`"lun": "64"`), "f:3:22", "vms[0].disks[0].lun", "not the place of a disk"},
		{"LUN with a zero in front", disk(`"lun": "01"`), "f:3:22", "vms[0].disks[0].lun", "not the place of a disk"},
		{"LUN twice", disk(`"lun": "1", "sizeBytes": 1}, {"lun": "1"`), "f:3:52", "vms[0].disks[1].lun", "two disks"},
		{"fraction", disk(`"sizeBytes": 1.5`), "f:3:28", "vms[0].disks[0].sizeBytes", "a whole number from 0 is wanted, not 1.5"},
		{"negative", disk(`"sizeBytes": -1`), "f:3:28", "vms[0].disks[0].sizeBytes", "-1"},
		{"text for a number", disk(`"sizeBytes": "1"`), "f:3:28", "vms[0].disks[0].sizeBytes", `"1"`},
		{"no size", disk(`"lun": "1"`), "f:3:25", "vms[0].disks[0].sizeBytes", "missing"},
		{"null for a text", machine(`, "zone": null`), "f:2:129", "vms[0].zone", "not null"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := inventory.Parse("f", []byte(c.text))
			var e *holdfast.Error
			if !asError(err, &e) || e.Kind != holdfast.KindInvalid || e.Hint == "" || len(got.VMs) > 0 {
				t.Fatalf("%+v, %v", got, err)
			}
			if !strings.HasPrefix(e.Message, c.place+": ") || e.Field != c.field || !strings.Contains(e.Message, c.says) {
				t.Errorf("%q, field %q\nwant %s …%s…, field %q", e.Message, e.Field, c.place, c.says, c.field)
			}
		})
	}
}

// TestRead proves that a file is read, and that one that is not there is bad input with a way out.
func TestRead(t *testing.T) {
	path := filepath.Join(t.TempDir(), "inventory.json")
	var e *holdfast.Error
	if _, err := inventory.Read(path); !asError(err, &e) || e.Kind != holdfast.KindInvalid || e.Field != "inventory" || e.Hint == "" {
		t.Errorf("%v", err)
	}
	if err := os.WriteFile(path, []byte(`{"vms":[{"id":"`+web+`","region":"westeurope"}]}`), 0o600); err != nil {
		t.Fatal(err)
	}
	if got, err := inventory.Read(path); err != nil || len(got.VMs) != 1 {
		t.Errorf("%+v, %v", got, err)
	}
}

// FuzzParse: whatever the bytes, an inventory that can be printed and read again, or an error of KindInvalid that names the file.
func FuzzParse(f *testing.F) {
	for _, seed := range []string{
		`{"at":"2026-03-01T12:00:00Z","zonal":["westeurope"],"vms":[{"id":"` + web + `","region":"westeurope","tags":{"a":"b"},"disks":[{"lun":"os","sizeBytes":5}]}]}`,
		`{"vms":null}`, `{"vms":[{}]}`, `[[[`, `{"vms":[],}`, "{\"vms\"\x00:[]}", `{"vms":[{"id":"` + web + `","region":"r","disks":[{"lun":"1e1","sizeBytes":1e3}]}]}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		got, err := inventory.Parse("f", data)
		if err != nil {
			if !holdfast.IsKind(err, holdfast.KindInvalid) || !strings.HasPrefix(err.Error(), "f:") {
				t.Fatalf("%v", err)
			}
			return
		}
		text, err := json.Marshal(got)
		if err != nil {
			t.Skip("a year beyond 9999 has no JSON")
		}
		again, err := inventory.Parse("f", text)
		if err != nil || len(again.VMs) != len(got.VMs) {
			t.Fatalf("%v\n%s", err, text)
		}
	})
}

func asError(err error, target **holdfast.Error) bool { return errors.As(err, target) }

// BenchmarkParse reads an inventory of 10,000 machines with two disks and four tags each.
func BenchmarkParse(b *testing.B) {
	vms := make([]holdfast.InventoryVM, 10_000)
	for i := range vms {
		vms[i] = holdfast.InventoryVM{
			ID: holdfast.ResourceID(fmt.Sprintf("%s-%d", web, i)), Name: "web", Region: "westeurope", Size: "Standard_D4s_v5", OS: "Linux", Power: "running",
			Tags:  map[string]string{"env": "prod", "team": "web", "tier": "1", "costCentre": "4711"},
			Disks: []holdfast.InventoryDisk{{LUN: holdfast.OSDisk, Name: "os", SizeBytes: 32 << 30, SKU: "Premium_LRS"}, {LUN: "0", Name: "data", SizeBytes: 1 << 40, SKU: "Premium_LRS"}},
		}
	}
	text, err := json.Marshal(holdfast.Inventory{VMs: vms})
	if err != nil {
		b.Fatal(err)
	}
	b.SetBytes(int64(len(text)))
	for b.Loop() {
		if got, err := inventory.Parse("f", text); err != nil || len(got.VMs) != len(vms) {
			b.Fatal(err)
		}
	}
}
