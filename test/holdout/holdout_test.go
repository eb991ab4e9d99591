// Package holdout lets a client that nobody here wrote say whether the twin answers as Azure does: Microsoft's JavaScript
// SDK walks through machines, snapshots, managed-disk data and blobs over TLS. The steps are in testdata/js/holdout.mjs.
//
// It needs node, and the packages of testdata/js in the folder that HOLDFAST_AZURITE names; without them the test is
// skipped, or fails when HOLDFAST_REQUIRE_TOOLS=1.
package holdout

import (
	"bytes"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/holdfast-backup/holdfast/internal/azureconfig"
	"github.com/holdfast-backup/holdfast/internal/twin"
	"github.com/holdfast-backup/holdfast/internal/twin/control"
)

const estate = `
subscriptions:
  - {id: 11111111-1111-1111-1111-111111111111, name: production}
resourceGroups:
  - {name: shop, subscription: production, location: westeurope}
storageAccounts:
  - {name: shopvault, resourceGroup: shop, containers: [{name: backups}, {name: locked, versionImmutability: true}]}
virtualMachines:
  - {name: web-1, resourceGroup: shop, size: Standard_D2s_v5, os: Linux, osDisk: {name: web-1-os, sizeGiB: 32, sku: Premium_LRS}}
  - {name: web-2, resourceGroup: shop, size: Standard_D2s_v5, os: Linux, osDisk: {name: web-2-os, sizeGiB: 32, sku: Premium_LRS}}
  - {name: web-3, resourceGroup: shop, size: Standard_D2s_v5, os: Linux, osDisk: {name: web-3-os, sizeGiB: 32, sku: Premium_LRS}}
`

// given is what the script reads from its standard input.
type given struct {
	ResourceManager string         `json:"resourceManager"`
	ActiveDirectory string         `json:"activeDirectory"`
	Blob            string         `json:"blob"`
	Tenant          string         `json:"tenant"`
	Client          string         `json:"client"`
	Secret          string         `json:"secret"`
	Control         control.Access `json:"control"`
	Subscription    string         `json:"subscription"`
	Group           string         `json:"group"`
	Location        string         `json:"location"`
	Account         string         `json:"account"`
	Machines        []string       `json:"machines"`
	OSDiskBytes     int64          `json:"osDiskBytes"`
}

// steps are the parts of the script; a part that is missing from its output was not carried out.
var steps = []string{
	"list machines over several pages", "get a machine with its instance view", "be told that a machine is missing",
	"read sizes and usage",
	"make an incremental snapshot", "get a SAS", "read page ranges and content", "be refused to delete what has an active SAS",
	"make a second snapshot of the same family", "read what changed between two snapshots",
	"be refused a comparison the wrong way round", "revoke access", "delete the snapshots", "upload a disk",
	"list containers", "create a blob once", "list blobs over several pages", "stage and commit blocks", "hold a lease",
	"read through a user-delegation SAS", "keep old versions", "be refused to delete what is immutable",
	"be refused with a wrong secret",
}

// TestTwin_SatisfiesMicrosoftsJavaScriptSDK proves each step, and that nothing is left active at the end.
func TestTwin_SatisfiesMicrosoftsJavaScriptSDK(t *testing.T) {
	node, modules := needNode(t)
	dir := startTwin(t)
	input, ca := configuration(t, dir)

	// The script runs from a copy beside the installed packages, because node looks for packages from the script's own folder.
	folder := t.TempDir()
	if err := os.Symlink(modules, filepath.Join(folder, "node_modules")); err != nil {
		t.Fatal(err)
	}
	script, err := os.ReadFile("../../testdata/js/holdout.mjs")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(folder, "holdout.mjs"), script, 0o600); err != nil {
		t.Fatal(err)
	}
	command := exec.CommandContext(t.Context(), node, filepath.Join(folder, "holdout.mjs"))
	command.Env = append(os.Environ(), "NODE_EXTRA_CA_CERTS="+ca)
	command.Stdin = bytes.NewReader(input)
	var complaints bytes.Buffer
	command.Stderr = &complaints
	out, err := command.Output()
	if err != nil {
		t.Fatalf("the script failed: %v\n%s%s", err, out, complaints.String())
	}
	var passed []string
	for line := range strings.Lines(string(out)) {
		if name, ok := strings.CutPrefix(strings.TrimSpace(line), "ok "); ok {
			passed = append(passed, name)
		}
	}
	if !slices.Equal(passed, steps) {
		t.Errorf("the script carried out\n\t%s\nwant\n\t%s", strings.Join(passed, "\n\t"), strings.Join(steps, "\n\t"))
	}
	wantNothingLeft(t, dir)
}

// startTwin serves an estate whose lists take several pages, until the test ends, and returns its folder.
func startTwin(t *testing.T) string {
	t.Helper()
	dir, file := filepath.Join(t.TempDir(), "twin"), filepath.Join(t.TempDir(), "estate.yaml")
	if err := os.WriteFile(file, []byte(estate), 0o600); err != nil {
		t.Fatal(err)
	}
	running, err := twin.Start(t.Context(), twin.Config{Dir: dir, EstateFile: file, DataTLS: true, Options: twin.Options{PageSize: 2}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := running.Close(t.Context()); err != nil && !errors.Is(err, t.Context().Err()) {
			t.Errorf("closing the twin: %v", err)
		}
	})
	return dir
}

// configuration returns what the script reads, and the file with the twin's CA. It comes from azure.yaml, as a user's would.
func configuration(t *testing.T, dir string) (input []byte, ca string) {
	t.Helper()
	config, err := azureconfig.Read(filepath.Join(dir, twin.AzureFile))
	if err != nil {
		t.Fatal(err)
	}
	g := given{
		ResourceManager: config.Endpoints.ResourceManager, ActiveDirectory: config.Endpoints.ActiveDirectory, Blob: config.Endpoints.Blob,
		Tenant: config.TenantID, Client: config.ClientID, Secret: config.ClientSecret.Reveal(),
		Subscription: "11111111-1111-1111-1111-111111111111", Group: "shop", Location: "westeurope", Account: "shopvault",
		Machines: []string{"web-1", "web-2", "web-3"}, OSDiskBytes: 32 << 30,
	}
	access, err := os.ReadFile(filepath.Join(dir, control.AccessFile))
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(access, &g.Control); err != nil {
		t.Fatal(err)
	}
	if input, err = json.Marshal(g); err != nil {
		t.Fatal(err)
	}
	return input, config.CAFile
}

// wantNothingLeft asks the twin which snapshots and SAS there are.
func wantNothingLeft(t *testing.T, dir string) {
	t.Helper()
	client, err := control.Dial(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	resources, err := client.Resources(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range resources {
		if r.ActiveSAS != 0 || strings.EqualFold(r.Type, "Microsoft.Compute/snapshots") || strings.Contains(r.ID, "holdout") {
			t.Errorf("%s is left, with %d active SAS", r.ID, r.ActiveSAS)
		}
	}
}

// needNode returns the node program and the folder of the installed packages.
func needNode(t *testing.T) (node, modules string) {
	t.Helper()
	node, err := exec.LookPath("node")
	if err == nil {
		modules = filepath.Join(os.Getenv("HOLDFAST_AZURITE"), "node_modules")
		if os.Getenv("HOLDFAST_AZURITE") == "" {
			modules = "../../testdata/js/node_modules"
		}
		if modules, err = filepath.Abs(modules); err == nil {
			_, err = os.Stat(filepath.Join(modules, "@azure", "arm-compute"))
		}
	}
	switch {
	case err == nil:
		return node, modules
	case os.Getenv("HOLDFAST_REQUIRE_TOOLS") == "1":
		t.Fatalf("HOLDFAST_REQUIRE_TOOLS=1 wants node and npm's packages: %v", err)
	case errors.Is(err, fs.ErrNotExist) || errors.Is(err, exec.ErrNotFound):
		t.Skipf("node, or the packages that HOLDFAST_AZURITE should name, are missing: %v", err)
	default:
		t.Fatal(err)
	}
	return "", ""
}
