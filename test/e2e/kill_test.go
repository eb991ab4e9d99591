package e2e

import (
	"bytes"
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/holdfast-backup/holdfast/internal/twin/fault"
)

const killEstate = `
subscriptions:
  - {id: 11111111-1111-1111-1111-111111111111, name: production}
resourceGroups:
  - {name: shop, subscription: production, location: westeurope}
networks:
  - {name: shop-net, resourceGroup: shop, addressPrefix: 10.1.0.0/16, subnets: [{name: front, addressPrefix: 10.1.1.0/24}]}
storageAccounts:
  - {name: shopvault, resourceGroup: shop, containers: [{name: backups}]}
virtualMachines:
  - name: web-1
    resourceGroup: shop
    size: Standard_D2s_v5
    os: Linux
    subnet: shop-net/front
    osDisk: {name: web-1-os, sizeGiB: 4, sku: Premium_LRS}
    dataDisks: [{lun: 0, name: web-1-data, sizeGiB: 8, sku: StandardSSD_LRS}]
`

// A backup is killed with SIGKILL at every outside call: the twin holds the call, the process dies, nothing of the call takes
// effect. The calls before it did take effect, so the loop also covers dying just after each of them. Then the backup is run again: its
// point is right, and nothing is left in the cloud. The repository lies on the twin's blob service, so that its calls count, too.
//
// `make test` kills at a sample of the calls; `make kill` (HOLDFAST_KILL=all) at every one.
func TestBackup_KilledAtEveryOutsideCall(t *testing.T) {
	t.Parallel()
	step := 27
	if os.Getenv("HOLDFAST_KILL") == "all" {
		step = 1
	}
	for _, kind := range []string{"first", "increment"} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			killEverywhere(t, kind == "first", step)
		})
	}
}

func killEverywhere(t *testing.T, first bool, step int) {
	w := newWorld(t, killEstate)
	disks := []string{"web-1-os", "web-1-data"}
	for i, disk := range disks {
		w.write(disk, int64(i+1)<<20, bytes.Repeat([]byte(disk), 40<<10))
	}
	killed := 0
	for call := 1 + step/2; ; call += step {
		if first || call == 1+step/2 { // every first backup needs a repository of its own
			w.repo = fmt.Sprintf("azblob://shopvault/backups/%s-%d", t.Name()[strings.LastIndex(t.Name(), "/")+1:], call)
			w.forget()
			w.initRepository()
		}
		if !first {
			w.write("web-1-os", 1<<20+int64(call)*4096, fmt.Appendf(nil, "%512d", call))
			if call == 1+step/2 {
				w.backup("web-1")
			}
		}
		if !w.killAt(call) {
			break
		}
		killed++
		result := w.backup("web-1")
		for i, lun := range []string{"os", "0"} {
			w.mustExport(result.Point, lun, w.snapshot(disks[i]))
		}
		w.mustNotLeak(disks...)
		if t.Failed() {
			t.Fatalf("after a kill at call %d", call)
		}
	}
	t.Logf("killed at %d calls", killed)
	if killed < 40/step {
		t.Errorf("only %d calls were found to kill at", killed)
	}
	w.do(nil, "repo", "verify", "--repo", w.repo)
}

// killAt runs a backup and kills it while the twin holds its k-th call. It reports false when the backup ended before that.
func (w *world) killAt(call int) bool {
	w.t.Helper()
	engine := w.twin.Faults()
	must(w.t, engine.Set(fault.Plan{Rules: []fault.Rule{{Calls: []int{call}, Fault: fault.Lost, DelayMs: 600_000}}}))
	defer func() { must(w.t, engine.Set(fault.Plan{})) }()
	cmd := w.command("backup", "--repo", w.repo, "--vm", vmID("web-1"))
	var output bytes.Buffer
	cmd.Stdout, cmd.Stderr = &output, &output
	must(w.t, cmd.Start())
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	held := false
	eventually(w.t, "the call that is held", func() bool {
		select {
		case err := <-ended:
			ended <- err
			return true
		default:
		}
		held = engine.Counts()[0].Fired > 0
		return held
	})
	if !held {
		if err := <-ended; err != nil {
			w.t.Fatalf("the backup that was not killed failed: %v\n%s", err, output.String())
		}
		return false
	}
	must(w.t, cmd.Process.Signal(syscall.SIGKILL))
	if err := <-ended; err == nil {
		w.t.Fatal("the killed process ended well")
	}
	return true
}

// forget removes the snapshots of a repository that the test is done with, as their owner would.
func (w *world) forget() {
	w.t.Helper()
	resources, err := w.guests.Resources(w.t.Context())
	must(w.t, err)
	for _, r := range resources {
		if strings.EqualFold(r.Type, "Microsoft.Compute/snapshots") {
			must(w.t, w.guests.Delete(w.t.Context(), r.ID))
		}
	}
}
