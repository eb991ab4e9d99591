package guest

import (
	"encoding/json"
	"net/http"
	"strings"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/compute/armcompute/v8"

	"github.com/holdfast-backup/holdfast/internal/twin/arm"
	"github.com/holdfast-backup/holdfast/internal/twin/compute/facts"
	"github.com/holdfast-backup/holdfast/internal/twin/guest/powershell"
	"github.com/holdfast-backup/holdfast/internal/twin/guest/sh"
	"github.com/holdfast-backup/holdfast/internal/twin/state"
)

// sample is what the platform runs when the script is missing.
const sample = "echo 'This is a sample script'"

// runCommand runs a script when it is accepted. What it takes is how long its operation goes on.
func (s *Service) runCommand(call *arm.Call, machine *state.Document) (arm.Answer, error) {
	script, err := scriptOf(call, machine)
	if err != nil {
		return arm.Answer{}, err
	}
	boot, running := facts.Running(machine)
	if !running {
		return arm.Answer{}, arm.Errorf(http.StatusConflict, "OperationNotAllowed", "The operation requires the VM to be running (or set to run).")
	}
	h, err := load(call.View, machine, call.Now)
	if err != nil {
		return arm.Answer{}, err
	}
	if h.Command == boot {
		return arm.Answer{}, arm.Errorf(http.StatusConflict, "Conflict", "Run command extension execution is in progress. Please wait for completion before invoking a run command.")
	}
	h.Command = boot
	operation := &arm.Operation{Kind: finishRan, Resource: machine.ID, Location: machine.Body.Text("location"), Namespace: "Microsoft.Compute", Path: "operations", Shared: true}
	operation.Arguments = state.Object{"boot": boot}
	if h.Declared.NoAgent || h.Frozen["/"] != "" {
		operation.Fail = silent(machine)
	} else {
		result := s.execute(h, machine, script, call.Now)
		operation.Arguments.Set("output", outputOf(machine, result))
		operation.Time = result.Took
		if err := s.apply(call, h); err != nil {
			return arm.Answer{}, err
		}
		switch {
		case h.Frozen["/"] != "":
			operation.Fail = silent(machine) // it ran, and its agent cannot report
		case result.Took > commandTimeMax:
			operation.Time = commandTimeMax
			operation.Fail = arm.Errorf(http.StatusConflict, "VMExtensionProvisioningTimeout", "Provisioning of VM extension RunCommand has timed out. Extension provisioning has taken too long to complete.")
		}
	}
	if err := h.save(call.Tx, machine); err != nil {
		return arm.Answer{}, err
	}
	call.Tx.OnCommit(func() {
		s.gate.Lock() // whoever writes still sees the guest as it was before the command
		defer s.gate.Unlock()
	})
	return arm.Answer{Operation: operation}, nil
}

// scriptOf reads the request.
func scriptOf(call *arm.Call, machine *state.Document) (string, error) {
	invalid := func(target, format string, args ...any) error {
		return arm.Errorf(http.StatusBadRequest, "InvalidParameter", format, args...).At(target)
	}
	var input armcompute.RunCommandInput
	if call.Raw == nil {
		return "", invalid("commandId", "Required parameter 'commandId' is missing (null).")
	}
	if err := json.Unmarshal(call.Raw, &input); err != nil {
		return "", arm.BadContent(err)
	}
	wanted := "RunShellScript"
	if isWindows(machine) {
		wanted = "RunPowerShellScript"
	}
	switch {
	case input.CommandID == nil:
		return "", invalid("commandId", "Required parameter 'commandId' is missing (null).")
	case *input.CommandID != wanted:
		return "", invalid("commandId", "The twin's guest of '%s' runs %s only, not '%s'.", machine.ID, wanted, *input.CommandID)
	case len(input.Parameters) > 0:
		return "", invalid("parameters", "The twin's guests take no parameters.")
	}
	var lines []string
	for _, line := range input.Script {
		if line != nil {
			lines = append(lines, *line)
		}
	}
	if len(lines) == 0 {
		if isWindows(machine) {
			return "Write-Output 'This is a sample script'", nil
		}
		return sample, nil
	}
	return strings.Join(lines, "\n"), nil
}

func (s *Service) execute(h *host, machine *state.Document, script string, now time.Time) sh.Result {
	h.now = now
	if isWindows(machine) {
		return powershell.Run(h, script, now)
	}
	return sh.Run(h, sh.Job{Script: script, Parameters: []string{"script.sh"}}, now)
}

// apply writes what script files wrote. It happens when the command is accepted, whatever its operation comes to.
func (s *Service) apply(call *arm.Call, h *host) error {
	for _, e := range h.effects {
		disk := call.View.Get(e.disk)
		if disk == nil {
			continue
		}
		if _, err := s.volumes.WriteAt(facts.VolumeOf(disk), []byte(e.text), e.offset); err != nil {
			return err
		}
	}
	return nil
}

// outputOf makes the answer: one text of both streams for Linux, a status for each of them for Windows. Neither tells how
// the script ended.
func outputOf(machine *state.Document, result sh.Result) state.Object {
	last := func(text string) string { return text[max(0, len(text)-outputBytesMax):] }
	status := func(code, message string) state.Object {
		return state.Object{"code": code, "level": "Info", "displayStatus": "Provisioning succeeded", "message": message}
	}
	output := state.Object{}
	if isWindows(machine) {
		output.Set("value", []state.Object{
			status("ComponentStatus/StdOut/succeeded", strings.TrimRight(last(result.Output), "\r\n")), status("ComponentStatus/StdErr/succeeded", last(result.Errors)),
		})
		return output
	}
	output.Set("value", []state.Object{status("ProvisioningState/succeeded", "Enable succeeded: \n[stdout]\n"+last(result.Output)+"\n[stderr]\n"+last(result.Errors))})
	return output
}

// ran ends a command. A guest that was stopped or restarted meanwhile has lost it.
func (s *Service) ran(tx *state.Tx, op *state.Document, now time.Time) (state.Object, error) {
	machine := tx.Get(op.Hidden.Text("resource"))
	if machine == nil {
		return nil, arm.Errorf(http.StatusNotFound, "ResourceNotFound", "The VM was removed while the operation was under way.")
	}
	boot, _ := facts.Running(machine)
	if boot != op.Hidden.Text("arguments.boot") {
		return nil, arm.Errorf(http.StatusConflict, "OperationPreempted", "Operation execution has been preempted by a more recent operation.")
	}
	h, err := load(tx.View, machine, now)
	if err != nil {
		return nil, err
	}
	h.Command = ""
	return op.Hidden.Object("arguments.output"), h.save(tx, machine)
}
