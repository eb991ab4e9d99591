package e2e

import (
	"bytes"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/holdfast-backup/holdfast/internal/twin/fault"
	"github.com/holdfast-backup/holdfast/test/programtest"
)

// started is a running command whose call the twin holds.
type started struct {
	cmd       *exec.Cmd
	out, errs bytes.Buffer
	ended     chan error
}

// startHeld starts a command and returns when the twin holds the call that a rule names. It returns nil when the command ended
// well before that.
func (w *world) startHeld(rule fault.Rule, args ...string) *started {
	w.t.Helper()
	rule.Limit = 1
	engine := w.twin.Faults()
	must(w.t, engine.Set(fault.Plan{Rules: []fault.Rule{rule}}))
	s := &started{cmd: w.command(args...), ended: make(chan error, 1)}
	s.cmd.Stdout, s.cmd.Stderr = &s.out, &s.errs
	must(w.t, s.cmd.Start())
	go func() { s.ended <- s.cmd.Wait() }()
	held := false
	eventually(w.t, "the call that is held", func() bool {
		select {
		case err := <-s.ended:
			s.ended <- err
			return true
		default:
		}
		held = engine.Counts()[0].Fired > 0
		return held
	})
	if held {
		return s
	}
	if err := <-s.ended; err != nil {
		w.t.Fatalf("holdfast %v failed by itself: %v\n%s%s", args, err, s.out.String(), s.errs.String())
	}
	return nil
}

// A backup that is stopped by a person or by the system ends with a failure and says so, and leaves the cloud as it was; what it
// stored is no restore point; the next one works.
func TestBackup_StoppedBySignal(t *testing.T) {
	t.Parallel()
	w := newWorld(t, killEstate)
	w.initRepository()
	w.write("web-1-data", 1<<20, noise(1, 3<<20))
	points := 0
	for _, stop := range []struct {
		signal os.Signal
		rule   fault.Rule
	}{
		{os.Interrupt, fault.Rule{On: fault.Disk, Method: "GET", Calls: []int{4}, Fault: fault.Slow, DelayMs: 600_000}},
		{syscall.SIGTERM, fault.Rule{On: fault.ARM, Method: "PUT", Path: "*/snapshots/*", Calls: []int{2}, Fault: fault.Slow, DelayMs: 600_000}},
		{syscall.SIGTERM, fault.Rule{On: fault.ARM, Method: "POST", Path: "*/beginGetAccess", Fault: fault.Slow, DelayMs: 600_000}},
		{os.Interrupt, fault.Rule{On: fault.Entra, Method: "POST", Fault: fault.Slow, DelayMs: 600_000}},
	} {
		cloud := w.resources()
		w.mustStop(stop.signal, stop.rule, "backup", "--repo", w.repo, "--vm", vmID("web-1"), "--json")
		if after := w.resources(); !slices.Equal(cloud, after) {
			t.Errorf("stopped at %v, the backup left:\n%s", stop.rule.Path, difference(cloud, after))
		}
		if listed, _ := w.value("repo", "points", "--repo", w.repo).([]any); len(listed) != points {
			t.Errorf("%d points are listed after %d backups", len(listed), points)
		}
		result := w.backup("web-1")
		points++
		w.mustExport(result.Point, "0", w.snapshot("web-1-data"))
		w.mustNotLeak("web-1-os", "web-1-data")
	}
}

// A restore that is stopped removes what it made.
func TestRestore_StoppedBySignal(t *testing.T) {
	t.Parallel()
	w := newWorld(t, killEstate)
	w.initRepository()
	w.write("web-1-data", 1<<20, noise(1, 3<<20))
	point := w.backup("web-1").Point
	cloud := w.resources()
	for _, stop := range []struct {
		signal os.Signal
		rule   fault.Rule
	}{
		{os.Interrupt, fault.Rule{On: fault.Disk, Method: "PUT", Calls: []int{3}, Fault: fault.Slow, DelayMs: 600_000}},
		{syscall.SIGTERM, fault.Rule{On: fault.ARM, Method: "PUT", Path: "*/disks/*", Calls: []int{2}, Fault: fault.Slow, DelayMs: 600_000}},
		{os.Interrupt, fault.Rule{On: fault.Disk, Method: "GET", Fault: fault.Slow, DelayMs: 600_000}},
		{syscall.SIGTERM, fault.Rule{On: fault.ARM, Method: "PUT", Path: "*/virtualMachines/*", Fault: fault.Slow, DelayMs: 600_000}},
	} {
		w.mustStop(stop.signal, stop.rule, "restore", "vm", "--repo", w.repo, "--point", point, "--name", "web-2", "--resource-group", "shop", "--json")
		if after := w.resources(); !slices.Equal(cloud, after) {
			t.Errorf("stopped at %s %s, the restore left:\n%s", stop.rule.Method, stop.rule.Path, difference(cloud, after))
		}
	}
	w.mustRestore(point, "web-2")
}

// mustStop stops a command with a signal while the twin holds one of its calls.
func (w *world) mustStop(signal os.Signal, rule fault.Rule, args ...string) {
	w.t.Helper()
	s := w.startHeld(rule, args...)
	if s == nil {
		w.t.Fatalf("no call of holdfast %v was held", args)
	}
	must(w.t, s.cmd.Process.Signal(signal))
	<-s.ended
	must(w.t, w.twin.Faults().Set(fault.Plan{}))
	a := answer{s.cmd.ProcessState.ExitCode(), s.out.Bytes(), s.errs.String()}
	failure := mustHave(w.t, "the error", oneValue(w.t, a).(map[string]any)["error"], "kind string message string hint string field string")
	if a.code != 1 || failure["kind"] != "canceled" || !strings.Contains(failure["message"].(string), "stopped") {
		w.t.Errorf("after %v: exit %d, %s", signal, a.code, a.out)
	}
}

// mustRestore restores a machine of killEstate and compares its disks with the source's.
func (w *world) mustRestore(point, name string) {
	w.t.Helper()
	w.do(nil, w.restoring(point, name)...)
	w.mustBeRestored(name)
}

func (w *world) restoring(point, name string) []string {
	return []string{"restore", "vm", "--repo", w.repo, "--point", point, "--name", name, "--resource-group", "shop"}
}

func (w *world) mustBeRestored(name string) {
	w.t.Helper()
	programtest.MustBeEqual(w.t, w.snapshot(name+"-os"), w.snapshot("web-1-os"))
	programtest.MustBeEqual(w.t, w.snapshot(name+"-lun0"), w.snapshot("web-1-data"))
}

// A restore is killed with SIGKILL at its outside calls: the twin holds the call, the process dies. Run again, it restores the same
// machine under the same name, equal, and leaves nothing besides. When it died after its last change, the machine is complete, and
// the name is taken.
//
// `make test` kills at a sample of the calls; `make kill` (HOLDFAST_KILL=all) at every one.
func TestRestore_KilledAtOutsideCalls(t *testing.T) {
	t.Parallel()
	step := 25
	if os.Getenv("HOLDFAST_KILL") == "all" {
		step = 1
	}
	w := newWorld(t, killEstate)
	w.initRepository()
	for i, disk := range []string{"web-1-os", "web-1-data"} {
		w.write(disk, int64(i+1)<<20, noise(uint64(i), 900<<10))
	}
	point := w.backup("web-1").Point
	before := w.resources()
	killed := 0
	for call := 1 + step/2; ; call += step {
		rule := fault.Rule{Calls: []int{call}, Fault: fault.Lost, DelayMs: 600_000}
		s := w.startHeld(rule, w.restoring(point, "web-2")...)
		if s == nil {
			break
		}
		must(t, s.cmd.Process.Kill())
		<-s.ended
		must(t, w.twin.Faults().Set(fault.Plan{}))
		killed++
		if again := w.run(w.restoring(point, "web-2")...); again.code != 0 && (again.code != 5 || !strings.Contains(again.errors, "exists already")) {
			t.Errorf("running again: exit %d\n%s", again.code, again.errors)
		}
		w.mustBeRestored("web-2")
		w.mustHaveOnly(before, "web-2", point)
		if t.Failed() {
			t.Fatalf("after a kill at call %d", call)
		}
		w.remove("web-2")
	}
	must(t, w.twin.Faults().Set(fault.Plan{}))
	t.Logf("killed at %d calls", killed)
	if killed < 60/step {
		t.Errorf("only %d calls were found to kill at", killed)
	}
}

// restored are the ids of a machine restored from killEstate, in the order in which they can be removed.
func restored(name string) []string {
	group := "/subscriptions/" + subscription + "/resourceGroups/shop/providers/"
	return []string{
		group + "Microsoft.Compute/virtualMachines/" + name, group + "Microsoft.Network/networkInterfaces/" + name + "-nic",
		group + "Microsoft.Compute/disks/" + name + "-os", group + "Microsoft.Compute/disks/" + name + "-lun0",
	}
}

// mustHaveOnly checks that besides what was there, a restored machine exists with its disks and its interface, that each says
// which point it came from and none is marked as unfinished, and that no SAS is open.
func (w *world) mustHaveOnly(before []string, name, point string) {
	w.t.Helper()
	all, err := w.guests.Resources(w.t.Context())
	must(w.t, err)
	fresh := map[string]bool{}
	for _, r := range all {
		if slices.Contains(before, describe(r)) {
			continue
		}
		fresh[strings.ToLower(r.ID)] = true
		if len(r.Tags) != 1 || r.Tags["holdfast-restore"] != point || r.ActiveSAS > 0 { // POINT/RUN would mean unfinished
			w.t.Errorf("%s has the tags %v and %d SAS", r.ID, r.Tags, r.ActiveSAS)
		}
	}
	ids := restored(name)
	for _, id := range ids {
		if !fresh[strings.ToLower(id)] {
			w.t.Errorf("%s does not exist", id)
		}
	}
	if len(fresh) != len(ids) {
		w.t.Errorf("besides %s there is more: %v", name, fresh)
	}
}

// remove deletes a restored machine, as its owner would.
func (w *world) remove(name string) {
	w.t.Helper()
	for _, id := range restored(name) {
		must(w.t, w.guests.Delete(w.t.Context(), id))
	}
}
