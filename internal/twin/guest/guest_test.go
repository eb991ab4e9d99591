package guest_test

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/compute/armcompute/v8"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/clock"
	"github.com/holdfast-backup/holdfast/internal/twin/arm"
	"github.com/holdfast-backup/holdfast/internal/twin/compute"
	"github.com/holdfast-backup/holdfast/internal/twin/estate"
	"github.com/holdfast-backup/holdfast/internal/twin/export"
	"github.com/holdfast-backup/holdfast/internal/twin/guest"
	"github.com/holdfast-backup/holdfast/internal/twin/network"
	"github.com/holdfast-backup/holdfast/internal/twin/state"
	"github.com/holdfast-backup/holdfast/internal/twin/vdisk"
)

const (
	subscription = "11111111-1111-1111-1111-111111111111"
	provider     = "/subscriptions/" + subscription + "/resourceGroups/shop/providers/Microsoft.Compute/"
	web          = provider + "virtualMachines/web"
	data         = provider + "disks/web-data"
)

// world is a twin without its wiring, on a clock that the test moves.
type world struct {
	t       *testing.T
	dir     string
	clock   *clock.Manual
	state   *state.Store
	volumes *vdisk.Store
	arm     *arm.Server
	compute *compute.Provider
	guests  *guest.Service
}

func plain() estate.VirtualMachine {
	return estate.VirtualMachine{
		Name: "web", ResourceGroup: "shop", Size: "Standard_D4s_v5", OS: "Linux", Subnet: "net/front",
		OSDisk:    estate.Disk{Name: "web-os", SizeGiB: 4, SKU: "Premium_LRS", Caching: "None"},
		DataDisks: []estate.Disk{{Name: "web-data", SizeGiB: 4, SKU: "Premium_LRS", Caching: "None"}},
	}
}

func windows() estate.VirtualMachine {
	vm := plain()
	vm.OS = "Windows"
	return vm
}

func newWorld(t *testing.T, vm estate.VirtualMachine) *world {
	t.Helper()
	w := &world{t: t, dir: t.TempDir(), clock: clock.NewManual(time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC))}
	w.open()
	e := estate.Estate{
		Subscriptions:   []estate.Subscription{{ID: subscription, Name: "production"}},
		ResourceGroups:  []estate.ResourceGroup{{Name: "shop", Subscription: "production", Location: "westeurope"}},
		Networks:        []estate.Network{{Name: "net", ResourceGroup: "shop", AddressPrefix: "10.1.0.0/16", Subnets: []estate.Subnet{{Name: "front", AddressPrefix: "10.1.1.0/24"}}}},
		VirtualMachines: []estate.VirtualMachine{vm},
	}
	if err := w.compute.Seed(t.Context(), e, t.TempDir()); err != nil {
		t.Fatal(err)
	}
	if err := w.guests.Seed(e); err != nil {
		t.Fatal(err)
	}
	return w
}

func (w *world) open() {
	t := w.t
	w.state = must(state.Open(w.dir + "/state"))(t)
	w.volumes = must(vdisk.Open(w.dir + "/volumes"))(t)
	exports := must(export.Open(export.Config{Dir: w.dir + "/grants", Volumes: w.volumes, Clock: w.clock, BaseURL: func() string { return "" }}))(t)
	w.arm = must(arm.New(arm.Config{State: w.state, Clock: w.clock, Limits: arm.Limits{Off: true}, OperationTime: time.Second}))(t)
	network.Register(w.arm)
	w.compute = must(compute.New(compute.Config{ARM: w.arm, State: w.state, Clock: w.clock, Volumes: w.volumes, Exports: exports}))(t)
	w.guests = must(guest.Register(guest.Config{ARM: w.arm, State: w.state, Clock: w.clock, Volumes: w.volumes}))(t)
	t.Cleanup(w.close)
}

func (w *world) close() {
	_ = w.volumes.Close()
	_ = w.state.Close()
}

func must[T any](value T, err error) func(testing.TB) T {
	return func(t testing.TB) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return value
	}
}

func (w *world) request(method, path, body string) (int, http.Header, state.Object) {
	w.t.Helper()
	request := httptest.NewRequest(method, path, strings.NewReader(body))
	request.Header.Set("Content-Type", "application/json")
	recorder := httptest.NewRecorder()
	w.arm.Handler().ServeHTTP(recorder, request)
	raw, _ := io.ReadAll(recorder.Body)
	decoded := state.Object{}
	if len(raw) > 0 {
		decoded = must(state.ParseObject(raw))(w.t)
	}
	return recorder.Code, recorder.Header(), decoded
}

// begin sends a script and returns where its outcome will stand, or the code of the refusal.
func (w *world) begin(lines ...string) (operation, refusal string) {
	w.t.Helper()
	command := "RunShellScript"
	if w.state.View().Get(web).Body.Text("properties.storageProfile.osDisk.osType") == "Windows" {
		command = "RunPowerShellScript"
	}
	body := must(json.Marshal(map[string]any{"commandId": command, "script": lines}))(w.t)
	status, header, answer := w.request(http.MethodPost, web+"/runCommand?api-version=2026-04-01", string(body))
	if status != http.StatusAccepted {
		return "", answer.Text("error.code")
	}
	return strings.TrimPrefix(header.Get("Azure-Asyncoperation"), "https://example.com"), ""
}

// outcome waits and reads how an operation ended: its messages, or the code of the failure.
func (w *world) outcome(operation string, wait time.Duration) (messages []string, failure string) {
	w.t.Helper()
	w.clock.Advance(wait)
	_, _, answer := w.request(http.MethodGet, operation, "")
	for _, status := range answer.Objects("properties.output.value") {
		messages = append(messages, status.Text("code")+": "+status.Text("message"))
	}
	switch answer.Text("status") {
	case "InProgress":
		return messages, "InProgress"
	case "Failed":
		return messages, answer.Text("error.code")
	}
	return messages, ""
}

// run is begin and outcome of a command that is accepted.
func (w *world) run(lines ...string) []string {
	w.t.Helper()
	operation, refusal := w.begin(lines...)
	messages, failure := w.outcome(operation, 2*time.Second)
	if refusal+failure != "" {
		w.t.Fatalf("%s%s", refusal, failure)
	}
	return messages
}

// TestRunCommand_AnswersLikeThePlatform: the form of the output, the last 4 KiB of each stream, and no exit code.
func TestRunCommand_AnswersLikeThePlatform(t *testing.T) {
	vm := plain()
	vm.Guest.Scripts = []estate.GuestScript{{Path: "/opt/s.sh", ExitCode: 3, Output: "begin", OutputBytes: 5000, Errors: "oh\n"}}
	w := newWorld(t, vm)
	got := w.run("sh /opt/s.sh", "exit 3")
	want := "ProvisioningState/succeeded: Enable succeeded: \n[stdout]\n" + strings.Repeat("x", 4096) + "\n[stderr]\noh\n"
	if len(got) != 1 || got[0] != want {
		t.Errorf("%q", got)
	}
	if got := w.run(); !strings.Contains(got[0], "This is a sample script") {
		t.Errorf("without a script: %q", got)
	}
	vm = windows()
	vm.Guest.Scripts = []estate.GuestScript{{Path: `C:\s.cmd`, ExitCode: -1, Output: "fine"}}
	w = newWorld(t, vm)
	got = w.run(`& 'C:\s.cmd' *> 'C:\out'`, `Write-Output $LASTEXITCODE`)
	if !slices.Equal(got, []string{"ComponentStatus/StdOut/succeeded: -1", "ComponentStatus/StdErr/succeeded: "}) {
		t.Errorf("%q", got)
	}
}

// TestRunCommand_Refusals has a row for each.
func TestRunCommand_Refusals(t *testing.T) {
	w := newWorld(t, plain())
	for name, body := range map[string]string{
		"no command": `{}`, "another system's": `{"commandId":"RunPowerShellScript"}`, "unknown": `{"commandId":"ifconfig"}`,
		"parameters": `{"commandId":"RunShellScript","parameters":[{"name":"a","value":"b"}]}`, "nothing": ``,
	} {
		if status, _, answer := w.request(http.MethodPost, web+"/runCommand?api-version=2026-04-01", body); status != 400 || answer.Text("error.code") != "InvalidParameter" {
			t.Errorf("%s: %d %v", name, status, answer)
		}
	}
	operation, refusal := w.begin("sleep 30")
	if _, second := w.begin("true"); refusal != "" || second != "Conflict" {
		t.Errorf("%q; a second command: %q", refusal, second)
	}
	if _, failure := w.outcome(operation, 29*time.Second); failure != "InProgress" {
		t.Errorf("after 29 of 30 seconds: %q", failure)
	}
	w.outcome(operation, 2*time.Second)
	w.run("true")

	operation, _ = w.begin("sleep 5400.5")
	if _, failure := w.outcome(operation, 90*time.Minute); failure != "VMExtensionProvisioningTimeout" {
		t.Errorf("after 90 minutes: %q", failure)
	}
	operation, _ = w.begin("sleep 60")
	w.request(http.MethodPost, web+"/restart?api-version=2026-04-01", "")
	if _, failure := w.outcome(operation, 61*time.Second); failure != "OperationPreempted" {
		t.Errorf("restarted: %q", failure)
	}
	w.run("true")
	w.request(http.MethodPost, web+"/deallocate?api-version=2026-04-01", "")
	w.clock.Advance(2 * time.Second)
	if _, refusal := w.begin("true"); refusal != "OperationNotAllowed" {
		t.Errorf("deallocated: %q", refusal)
	}
	vm := plain()
	vm.Guest.NoAgent = true
	w = newWorld(t, vm)
	operation, _ = w.begin("echo a >/run/x")
	if _, failure := w.outcome(operation, 2*time.Second); failure != "VMAgentStatusCommunicationError" {
		t.Errorf("no agent: %q", failure)
	}
}

const timer = `setsid sh -c 'sleep "$1"; fsfreeze -u /disks/web-data' timer 60 </dev/null >/dev/null 2>&1 &`

func (w *world) write() error {
	return w.guests.Write(data, func() error {
		_, err := w.volumes.WriteAt(must(w.compute.DiskVolume(data))(w.t), []byte("x"), 0)
		return err
	})
}

// TestFreeze_BlocksWrites until the thaw, and until the freeze's own timer ends; another disk goes on.
func TestFreeze_BlocksWrites(t *testing.T) {
	w := newWorld(t, plain())
	frozen := func(when string, want bool) {
		t.Helper()
		if err := w.write(); holdfast.IsKind(err, holdfast.KindConflict) != want || !want && err != nil {
			t.Errorf("%s: %v", when, err)
		}
		if mounts := must(w.guests.Frozen(web, w.clock.Now()))(t); (len(mounts) == 1) != want {
			t.Errorf("%s: %v", when, mounts)
		}
	}
	frozen("before", false)
	w.run("fsfreeze -f /disks/web-data")
	frozen("frozen", true)
	if err := w.guests.Write(provider+"disks/web-os", func() error { return nil }); err != nil {
		t.Errorf("another disk: %v", err)
	}
	w.close()
	w.open()
	frozen("after a restart of the twin", true)
	w.run("fsfreeze -u /disks/web-data")
	frozen("thawed", false)

	w.run(timer, "fsfreeze -f /disks/web-data")
	frozen("frozen with a timer", true)
	w.clock.Advance(50 * time.Second)
	frozen("before the timer's end", true)
	if ahead := must(w.guests.Frozen(web, w.clock.Now().Add(20*time.Second)))(t); len(ahead) != 0 {
		t.Errorf("seen ahead: %v", ahead)
	}
	w.clock.Advance(20 * time.Second)
	frozen("after the timer's end", false)

	w.run("fsfreeze -f /disks/web-data")
	w.request(http.MethodPost, web+"/restart?api-version=2026-04-01", "")
	w.clock.Advance(2 * time.Second)
	frozen("after a restart of the machine", false)
}

// TestFreeze_IsInForceWhenItIsKnown: a write that has begun ends before the command is answered, so that none lands after
// the freeze is known of.
func TestFreeze_IsInForceWhenItIsKnown(t *testing.T) {
	w := newWorld(t, plain())
	inside, goOn, answered := make(chan struct{}), make(chan struct{}), make(chan struct{})
	var late atomic.Bool
	go func() {
		err := w.guests.Write(data, func() error {
			close(inside)
			<-goOn
			select {
			case <-answered:
				late.Store(true)
			default:
			}
			return nil
		})
		if err != nil {
			t.Error(err)
		}
	}()
	<-inside
	began := make(chan struct{})
	go func() {
		close(began)
		w.begin("fsfreeze -f /disks/web-data")
		close(answered)
	}()
	<-began
	for len(must(w.guests.Frozen(web, w.clock.Now()))(t)) == 0 { // committed, and not answered yet
		runtime.Gosched()
	}
	close(goOn)
	<-answered
	if late.Load() {
		t.Error("a write went on after the freeze was known of")
	}
}

// TestFreeze_OfTheRoot silences the agent: the command that did it has no answer, and no other one runs.
func TestFreeze_OfTheRoot_SilencesTheAgent(t *testing.T) {
	w := newWorld(t, plain())
	operation, _ := w.begin("setsid sh -c 'sleep 60; fsfreeze -u /' timer x &", "fsfreeze -f /")
	if _, failure := w.outcome(operation, 2*time.Second); failure != "VMAgentStatusCommunicationError" {
		t.Errorf("the freeze: %q", failure)
	}
	operation, _ = w.begin("fsfreeze -u /")
	if _, failure := w.outcome(operation, 2*time.Second); failure != "VMAgentStatusCommunicationError" {
		t.Errorf("the thaw: %q", failure)
	}
	w.clock.Advance(time.Minute)
	w.run("true")
}

// TestScript_WritesToItsDisk, and fails where its filesystem is frozen.
func TestScript_WritesToItsDisk(t *testing.T) {
	vm := plain()
	vm.Guest.Scripts = []estate.GuestScript{{Path: "/opt/flush.sh", Effect: estate.GuestEffect{Disk: "web-data", Offset: 4096, Text: "flushed"}}}
	w := newWorld(t, vm)
	w.run("/opt/flush.sh")
	p := make([]byte, 7)
	must(w.volumes.ReadAt(must(w.compute.DiskVolume(data))(t), p, 4096))(t)
	if string(p) != "flushed" {
		t.Errorf("%q", p)
	}
	if got := w.run("fsfreeze -f /disks/web-data", "/opt/flush.sh", "echo $?"); !strings.Contains(got[0], "\n1\n") || !strings.Contains(got[0], "frozen") {
		t.Errorf("%q", got)
	}
}

// TestQuiesce: what restore points can claim, by system and declaration.
func TestQuiesce(t *testing.T) {
	quiesce := func(w *world) (mode armcompute.ConsistencyModeTypes, code string) {
		err := w.state.Update(func(tx *state.Tx) error {
			var refusal *arm.Error
			mode, refusal = w.guests.Quiesce(tx, tx.Get(web), w.clock.Now())
			if refusal != nil {
				code = refusal.Code
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		return mode, code
	}
	const application, files = armcompute.ConsistencyModeTypesApplicationConsistent, armcompute.ConsistencyModeTypesFileSystemConsistent
	for name, row := range map[string]struct {
		vm    estate.VirtualMachine
		guest estate.Guest
		mode  armcompute.ConsistencyModeTypes
		code  string
	}{
		"linux":              {plain(), estate.Guest{}, files, ""},
		"linux with scripts": {plain(), estate.Guest{SnapshotScripts: true}, application, ""},
		"no agent":           {plain(), estate.Guest{NoAgent: true}, "", "VMAgentStatusCommunicationError"},
		"windows":            {windows(), estate.Guest{}, application, ""},
	} {
		row.vm.Guest = row.guest
		if mode, code := quiesce(newWorld(t, row.vm)); mode != row.mode || code != row.code {
			t.Errorf("%s: %s %s", name, mode, code)
		}
	}
	vm := windows()
	vm.Guest.VSS = estate.VSSFailing
	w := newWorld(t, vm)
	for i, want := range []string{"VMRestorePointClientError", string(files), string(files), string(files), "VMRestorePointClientError"} {
		if mode, code := quiesce(w); string(mode)+code != want {
			t.Errorf("attempt %d: %s %s, want %s", i+1, mode, code, want)
		}
	}
}
