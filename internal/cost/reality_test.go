package cost_test

import (
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/holdfast-backup/holdfast/internal/azure/azuretest"
	"github.com/holdfast-backup/holdfast/internal/blob"
	"github.com/holdfast-backup/holdfast/internal/blob/mem"
	"github.com/holdfast-backup/holdfast/internal/blob/wrap"
	"github.com/holdfast-backup/holdfast/internal/capture"
	"github.com/holdfast-backup/holdfast/internal/clock"
	"github.com/holdfast-backup/holdfast/internal/cost"
	"github.com/holdfast-backup/holdfast/internal/repo"
	"github.com/holdfast-backup/holdfast/internal/repo/repotest"
	"github.com/holdfast-backup/holdfast/internal/twin/estate"
)

// classifier counts requests to Resource Manager by the classes that the table of this package knows, and operations: those
// whose state was asked for.
type classifier struct {
	next http.RoundTripper

	mu         sync.Mutex // guards the following
	counts     map[cost.Class]int64
	operations map[string]bool
}

func (c *classifier) RoundTrip(r *http.Request) (*http.Response, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	path := strings.ToLower(r.URL.Path)
	polled := strings.Contains(path, "operations/")
	switch {
	case !strings.HasPrefix(path, "/subscriptions/"): // tokens, and the content of disks
	case polled:
		c.operations[path] = true
	case r.Method == http.MethodGet:
		c.counts[cost.Reads]++
		if strings.Contains(path, "/virtualmachines/") {
			c.counts[cost.VMReads]++
		}
	case r.Method == http.MethodDelete:
		c.counts[cost.Deletes]++
	default:
		c.counts[cost.Writes]++
	}
	return c.next.RoundTrip(r)
}

// backups runs backups of a machine with so many disks and returns what each of them asked for.
func backups(t *testing.T, disks, runs int) (calls []*classifier, stores []*wrap.Counter) {
	t.Helper()
	vm := estate.VirtualMachine{Name: "m", OSDisk: estate.Disk{Name: "m-os", SizeGiB: 32, SKU: "Premium_LRS"}}
	for i := 1; i < disks; i++ {
		vm.DataDisks = append(vm.DataDisks, estate.Disk{LUN: i, Name: fmt.Sprintf("m-%d", i), SizeGiB: 16, SKU: "StandardSSD_LRS"})
	}
	cloud := azuretest.Start(t, azuretest.Estate(vm), azuretest.Options{})
	store := mem.New(clock.System{})
	init := repo.InitOptions{Password: repotest.Password, KDF: repotest.FastKDF(), Clock: clock.System{}, Tool: "holdfast test"}
	if _, err := repo.Init(t.Context(), store, init); err != nil {
		t.Fatal(err)
	}
	for run := range runs {
		for i, disk := range append(vm.DataDisks, vm.OSDisk) {
			cloud.Write(t, azuretest.Disk(disk.Name), fmt.Appendf(nil, "%512d", run*disks+i), int64(run)<<20)
		}
		call := &classifier{counts: map[cost.Class]int64{}, operations: map[string]bool{}}
		counter := &wrap.Counter{}
		backUp(t, cloud, wrap.Count(store, counter), call)
		calls, stores = append(calls, call), append(stores, counter)
	}
	return calls, stores
}

// backUp is one backup by a new process, whose audit reads a part of each disk as that of a daily backup does.
func backUp(t *testing.T, cloud *azuretest.Cloud, store blob.Store, call *classifier) {
	t.Helper()
	client := cloud.Client(t, azuretest.Wrapped(func(next http.RoundTripper) http.RoundTripper {
		call.next = next
		return call
	}))
	r, err := repo.Open(t.Context(), store, repo.OpenOptions{Password: repotest.Password, Clock: clock.System{}, Tool: "holdfast test"})
	if err != nil {
		t.Fatal(err)
	}
	flow, err := capture.New(capture.Config{Source: client, Repository: r, PollEvery: time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := flow.Run(t.Context(), azuretest.Machine("m"), capture.Options{Audit: capture.Audit{Share: 0.5}}); err != nil {
		t.Fatal(err)
	}
}

// The table of requests is what backups of the product send to Azure's management interface: counted for machines of one and of
// three disks, for the first backup and a later one. Polls depend on how long Azure takes; what is held here is that each
// operation is one of those that the table polls.
func TestRequestsOf_IsWhatBackupsSend(t *testing.T) {
	for _, disks := range []int{1, 3} {
		calls, _ := backups(t, disks, 3)
		for run, work := range []cost.Work{cost.WorkFirstBackup, cost.WorkBackup, cost.WorkBackup} {
			want := cost.RequestsOf(work, disks)
			want[cost.Reads] -= want[cost.Polls]
			got := calls[run].counts
			for _, class := range []cost.Class{cost.Reads, cost.Writes, cost.Deletes, cost.VMReads} {
				if got[class] != want[class] {
					t.Errorf("%s of %d disks: %d %s, the table says %d", work, disks, got[class], class, want[class])
				}
			}
			const pollsOfOne = 2
			if n := int64(len(calls[run].operations)); n*pollsOfOne != want[cost.Polls] {
				t.Errorf("%s of %d disks: %d operations, the table polls %d", work, disks, n, want[cost.Polls]/pollsOfOne)
			}
		}
	}
}

// What is assumed of the requests to a store is what backups send: exactly of writes, and in the mean of a rotation of
// checkpoints, give or take a half, of what depends on how much of the log is read.
func TestRequestsToStore_AreWhatBackupsSend(t *testing.T) {
	const runs = 24
	_, stores := backups(t, 1, runs)
	sum := map[wrap.Op]int{}
	for run, counter := range stores {
		calls := counter.Calls()
		for op, n := range calls {
			sum[op] += n
		}
		if puts := calls[wrap.OpPut]; run > 0 && puts > cost.WritesPerPoint+4 {
			t.Errorf("backup %d: %d puts, with one data pack %d are assumed", run, puts, cost.WritesPerPoint+1)
		}
	}
	for _, c := range []struct {
		what    string
		got     int
		assumed int
		slack   float64
	}{
		{"puts", sum[wrap.OpPut], cost.WritesPerPoint + 1, 0.1},
		{"reads", sum[wrap.OpRead] + sum[wrap.OpReadVersion], cost.ReadsPerPoint, 0.5},
		{"stats", sum[wrap.OpStat], cost.OthersPerPoint, 0.5},
		{"lists", sum[wrap.OpList] + sum[wrap.OpVersions] + sum[wrap.OpListVersions], cost.ListsPerPoint, 0.5},
	} {
		mean := float64(c.got) / runs
		t.Logf("%s: %.1f for a backup, %d assumed", c.what, mean, c.assumed)
		if mean < float64(c.assumed)*(1-c.slack) || mean > float64(c.assumed)*(1+c.slack) {
			t.Errorf("%s: %.1f for a backup, %d are assumed", c.what, mean, c.assumed)
		}
	}
}
