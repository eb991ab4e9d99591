package azure_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/azure"
	"github.com/holdfast-backup/holdfast/internal/azure/azuretest"
	"github.com/holdfast-backup/holdfast/internal/machine"
	"github.com/holdfast-backup/holdfast/internal/twin/estate"
	"github.com/holdfast-backup/holdfast/internal/twin/fault"
)

// database is a machine with two data disks, script files, and a mount for each disk.
func database(system string) estate.VirtualMachine {
	vm := estate.VirtualMachine{
		Name: "db", ResourceGroup: azuretest.Group, Subnet: "shop-net/front", Size: "Standard_D4s_v5", OS: system,
		OSDisk: estate.Disk{Name: "db-os", SizeGiB: 4, SKU: "Premium_LRS"},
		DataDisks: []estate.Disk{
			{LUN: 0, Name: "db-data", SizeGiB: 4, SKU: "Premium_LRS"}, {LUN: 3, Name: "db-log", SizeGiB: 4, SKU: "Premium_LRS"},
		},
		Guest: estate.Guest{Scripts: []estate.GuestScript{{Path: "/opt/say.sh", EchoArguments: true, ExitCode: 3}, {Path: "/opt/long.sh", OutputBytes: 9000}}},
	}
	if system == "Windows" {
		vm.Guest.Scripts = []estate.GuestScript{{Path: `C:\s\say.ps1`, EchoArguments: true, ExitCode: -7}, {Path: `C:\s\long.cmd`, OutputBytes: 9000}}
	}
	return vm
}

var ours = map[string]string{"owner": "holdfast"}

func collectionRequest() machine.CollectionRequest {
	return machine.CollectionRequest{
		ID: azuretest.ID("Microsoft.Compute/restorePointCollections", "db-points"), SourceID: azuretest.Machine("db"), Location: azuretest.Location, Tags: ours,
	}
}

func pointID(name string) holdfast.ResourceID {
	return collectionRequest().ID + holdfast.ResourceID("/restorePoints/"+name)
}

// TestRestorePoint_IsMadeReadComparedAndRemoved through the real SDK, whatever happens to the first two calls of each
// sort: lost before and after their effect, throttled, failed.
func TestRestorePoint_IsMadeReadComparedAndRemoved(t *testing.T) {
	for _, rule := range []fault.Rule{
		{Fault: fault.Lost},
		{Fault: fault.Lost, AfterEffect: true},
		{Fault: fault.Throttle, RetryAfterMs: 1, AfterEffect: true},
		{Fault: fault.Error, AfterEffect: true},
	} {
		t.Run(fmt.Sprintf("%s %t", rule.Fault, rule.AfterEffect), func(t *testing.T) {
			c := azuretest.Start(t, azuretest.Estate(database("Linux")), azuretest.Options{})
			client := c.Client(t)
			var rules []fault.Rule
			for _, method := range []string{"PUT", "POST", "DELETE"} {
				r := rule
				r.On, r.Method, r.Path, r.Calls = fault.ARM, method, "*/restorePointCollections/*", []int{1, 2}
				rules = append(rules, r)
			}
			behave := c.Misbehave(t, rules...)
			wholeLife(t, c, client)
			behave()
			if left := c.Resources(t, "Microsoft.Compute/restorePointCollections"); len(left) != 0 || c.ActiveSAS(t) != 0 {
				t.Errorf("left: %v, %d SAS", left, c.ActiveSAS(t))
			}
		})
	}
}

func wholeLife(t *testing.T, c *azuretest.Cloud, client *azure.Client) {
	t.Helper()
	ctx := t.Context()
	made, err := client.CreateCollection(ctx, collectionRequest())
	if err != nil || !made.SourceID.Equal(azuretest.Machine("db")) {
		t.Fatalf("%+v, %v", made, err)
	}
	c.Write(t, azuretest.Disk("db-log"), []byte("first"), 512)
	request := machine.RestorePointRequest{ID: pointID("one"), Consistency: machine.CrashConsistent, Exclude: []holdfast.ResourceID{azuretest.Disk("db-os")}}
	one, err := client.CreateRestorePoint(ctx, request)
	if err != nil || one.Consistency != machine.CrashConsistent || len(one.Disks) != 2 || one.Disks[1].LUN != "3" || !one.Disks[1].Ready ||
		one.Disks[1].FamilyID == "" || one.Disks[1].SourceUniqueID == "" || !one.Disks[1].SourceID.Equal(azuretest.Disk("db-log")) {
		t.Fatalf("%+v, %v", one, err)
	}
	if again, err := client.CreateRestorePoint(ctx, request); err != nil || again.ID != one.ID || !again.Created.Equal(one.Created) {
		t.Errorf("asked again: %+v, %v", again, err)
	}
	c.Write(t, azuretest.Disk("db-log"), []byte("second"), 1<<20)
	two, err := client.CreateRestorePoint(ctx, machine.RestorePointRequest{ID: pointID("two"), Consistency: machine.ApplicationConsistent})
	if err != nil || two.Consistency != machine.FileSystemConsistent || len(two.Disks) != 3 {
		t.Fatalf("%+v, %v", two, err)
	}
	base, err := client.OpenPointDisk(ctx, one.Disks[1])
	if err != nil {
		t.Fatal(err)
	}
	content, err := client.OpenPointDisk(ctx, two.Disks[2])
	if err != nil || content.SizeBytes() != 4<<30 {
		t.Fatalf("%v", err)
	}
	changed := int64(0)
	for e, err := range content.Changes(ctx, base) {
		if err != nil {
			t.Fatal(err)
		}
		changed = e.Offset
	}
	p := make([]byte, 6)
	if err := content.ReadAt(ctx, p, 1<<20); err != nil || string(p) != "second" || changed != 1<<20 {
		t.Errorf("%q, %v; changed at %d", p, err, changed)
	}
	if err := base.Close(ctx); err != nil {
		t.Error(err)
	}
	if err := client.DeleteRestorePoint(ctx, pointID("two")); err != nil { // content is still open: somebody died
		t.Fatal(err)
	}
	if _, err := client.RestorePoint(ctx, pointID("two")); !holdfast.IsKind(err, holdfast.KindNotFound) {
		t.Errorf("%v", err)
	}
	if _, err := client.OpenPointDisk(ctx, one.Disks[0]); err != nil {
		t.Fatal(err)
	}
	if err := client.DeleteCollection(ctx, collectionRequest().ID); err != nil {
		t.Fatal(err)
	}
	if err := client.DeleteCollection(ctx, collectionRequest().ID); err != nil {
		t.Errorf("deleting what is gone: %v", err)
	}
}

// TestCreateCollection_AnothersIsLeftAlone: its tags stay.
func TestCreateCollection_AnothersIsLeftAlone(t *testing.T) {
	c := azuretest.Start(t, azuretest.Estate(database("Linux")), azuretest.Options{})
	client, theirs := c.Client(t), collectionRequest()
	theirs.Tags = map[string]string{"owner": "somebody"}
	if _, err := client.CreateCollection(t.Context(), theirs); err != nil {
		t.Fatal(err)
	}
	if _, err := client.CreateCollection(t.Context(), collectionRequest()); !holdfast.IsKind(err, holdfast.KindRefused) {
		t.Errorf("%v", err)
	}
	if found, err := client.Collection(t.Context(), theirs.ID); err != nil || found.Tags["owner"] != "somebody" {
		t.Errorf("%+v, %v", found, err)
	}
}

// TestCreateRestorePoint_FailedOnesAreRemoved: an agent that does not answer is told, and no failed point is left.
func TestCreateRestorePoint_FailedOnesAreRemoved(t *testing.T) {
	vm := database("Linux")
	vm.Guest.NoAgent = true
	c := azuretest.Start(t, azuretest.Estate(vm), azuretest.Options{})
	client := c.Client(t)
	if _, err := client.CreateCollection(t.Context(), collectionRequest()); err != nil {
		t.Fatal(err)
	}
	request := machine.RestorePointRequest{ID: pointID("one"), Consistency: machine.ApplicationConsistent}
	_, err := client.CreateRestorePoint(t.Context(), request)
	if !holdfast.IsKind(err, holdfast.KindUnavailable) || !strings.Contains(hintOf(err), "agent") {
		t.Errorf("%v", err)
	}
	if left := c.Resources(t, "Microsoft.Compute/restorePointCollections/restorePoints"); len(left) != 0 {
		t.Errorf("left: %v", left)
	}
	request.Consistency = machine.CrashConsistent
	if _, err := client.CreateRestorePoint(t.Context(), request); err != nil {
		t.Error(err)
	}
}

// TestRun_TellsOutputAndExitCode in guests of both systems, whatever happens to the first two calls; each script runs once.
func TestRun_TellsOutputAndExitCode(t *testing.T) {
	for system, row := range map[string]struct {
		say, long string
		status    int
	}{"Linux": {"/opt/say.sh", "/opt/long.sh", 3}, "Windows": {`C:\s\say.ps1`, `C:\s\long.cmd`, -7}} {
		for _, rule := range []fault.Rule{
			{Fault: fault.Slow, DelayMs: 1}, {Fault: fault.Lost}, {Fault: fault.Lost, AfterEffect: true}, {Fault: fault.Error, AfterEffect: true}, {Fault: fault.Throttle, RetryAfterMs: 1, AfterEffect: true},
		} {
			t.Run(fmt.Sprintf("%s %s %t", system, rule.Fault, rule.AfterEffect), func(t *testing.T) {
				c := azuretest.Start(t, azuretest.Estate(database(system)), azuretest.Options{})
				client := c.Client(t)
				rule.On, rule.Method, rule.Path, rule.Calls = fault.ARM, "POST", "*/runCommand", []int{1, 2}
				behave := c.Misbehave(t, rule)
				got, err := client.Run(t.Context(), machine.Command{
					Machine: azuretest.Machine("db"), OS: system, Ticket: "ticket-say", File: row.say, Arguments: []string{"a b", "it's"}, Wait: time.Minute,
				})
				if err != nil || got.Status != row.status || strings.TrimSpace(got.Output) != "a b\nit's" {
					t.Errorf("%+v, %v", got, err)
				}
				long, err := client.Run(t.Context(), machine.Command{Machine: azuretest.Machine("db"), OS: system, Ticket: "ticket-long", File: row.long, Wait: time.Minute})
				if err != nil || long.Status != 0 || len(long.Output) != 3000 || long.OutputBytes != 9000 {
					t.Errorf("status %d, %d of %d bytes, %v", long.Status, len(long.Output), long.OutputBytes, err)
				}
				missing, err := client.Run(t.Context(), machine.Command{Machine: azuretest.Machine("db"), OS: system, Ticket: "ticket-none", File: strings.Replace(row.say, "say", "none", 1), Wait: time.Minute})
				if err != nil || !missing.Missing {
					t.Errorf("%+v, %v", missing, err)
				}
				behave()
			})
		}
	}
}

func hintOf(err error) string {
	var e *holdfast.Error
	if !errors.As(err, &e) {
		return ""
	}
	return e.Hint
}

// TestRun_Refusals: a guest that is held by another command for too long, one that is off, and one without an agent.
func TestRun_Refusals(t *testing.T) {
	vm := database("Linux")
	c := azuretest.Start(t, azuretest.Estate(vm), azuretest.Options{})
	client := c.Client(t)
	run := func(client *azure.Client, ticket, script string) error {
		_, err := client.Run(t.Context(), machine.Command{Machine: azuretest.Machine("db"), OS: "Linux", Ticket: ticket, Script: script, Wait: 50 * time.Millisecond})
		return err
	}
	held := make(chan error)
	go func() { held <- run(client, "ticket-first", "sleep 2") }()
	for {
		err := run(client, "ticket-second", "true")
		if holdfast.IsKind(err, holdfast.KindConflict) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := <-held; err != nil {
		t.Error(err)
	}
	vm.Guest.NoAgent = true
	silent := azuretest.Start(t, azuretest.Estate(vm), azuretest.Options{})
	if err := run(silent.Client(t), "ticket-silent", "true"); !holdfast.IsKind(err, holdfast.KindUnavailable) || !strings.Contains(hintOf(err), "agent") {
		t.Errorf("%v", err)
	}
}
