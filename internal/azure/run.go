package azure

import (
	"context"
	"errors"
	"strings"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/runtime"
	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/compute/armcompute/v8"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/azure/answer"
	"github.com/holdfast-backup/holdfast/internal/azure/command"
	"github.com/holdfast-backup/holdfast/internal/machine"
)

// busyPolls is how many poll intervals lie between two attempts while another command runs: each attempt counts as an
// update of the machine, of which there may be four a minute.
const busyPolls = 4

// Run runs a command in a guest and returns how it ended. The ticket makes it one command however often it is sent: an
// answer that got lost is asked for again and told from what the guest kept. Whether a command succeeded is for the caller
// to judge by its exit code. After an error the command may have run, or may still be running: KindConflict says that
// other commands held the guest for longer than Wait, or that the machine does not run; KindUnavailable that no agent
// answers, or that an earlier request began the command and nobody knows how it ended.
func (c *Client) Run(ctx context.Context, wanted machine.Command) (machine.CommandResult, error) {
	id, script, err := command.Wrap(wanted)
	if err != nil {
		return machine.CommandResult{}, err
	}
	lines := []*string{}
	for line := range strings.SplitSeq(script, "\n") {
		lines = append(lines, &line)
	}
	input := armcompute.RunCommandInput{CommandID: &id, Script: lines}
	until := c.clock.Now().Add(wanted.Wait)
	for {
		result, err := c.runOnce(ctx, wanted, input)
		if !strings.EqualFold(answer.Code(err), "Conflict") || !c.clock.Now().Before(until) {
			return result, err
		}
		if err := c.clock.Sleep(ctx, busyPolls*c.options.PollEvery); err != nil {
			return machine.CommandResult{}, answer.Explain(err, "run a command in "+wanted.Machine.Name())
		}
	}
}

func (c *Client) runOnce(ctx context.Context, wanted machine.Command, input armcompute.RunCommandInput) (machine.CommandResult, error) {
	sub, err := c.in(wanted.Machine.Subscription())
	if err != nil {
		return machine.CommandResult{}, err
	}
	var result machine.CommandResult
	err = c.carryOut(ctx, change{
		doing: "run a command in " + wanted.Machine.Name(),
		attempt: func(ctx context.Context) error {
			response, err := finish(ctx, c, func(ctx context.Context) (*runtime.Poller[armcompute.VirtualMachinesClientRunCommandResponse], error) {
				return sub.machines.BeginRunCommand(ctx, wanted.Machine.ResourceGroup(), wanted.Machine.Name(), input, nil)
			})
			if err != nil {
				return err
			}
			var messages []string
			for _, status := range response.Value {
				if status != nil {
					messages = append(messages, text(status.Message))
				}
			}
			result, err = command.Read(wanted, messages)
			return begun(err)
		},
		look: func(context.Context) (bool, error) { return false, nil }, // the guest is asked again, and tells what it kept
	})
	return result, err
}

// begun says for an operator that the end of a command is not known.
func begun(err error) error {
	var b *command.Begun
	if !errors.As(err, &b) {
		return err
	}
	return holdfast.Wrap(holdfast.KindInternal, err, "an earlier request began the command, and the guest does not know how it ended").
		WithHint("look at what the script does in the guest, then run it under another name")
}
