// Package policies holds the commands that work with documents and with what the engines of policies make of them: policy,
// inventory, retention, sla. doc/cli.md states what scripts may rely on.
//
// A command here reads its flags and files, calls the engines, and hands on what they answer. It promises that nothing is
// changed anywhere. It must not decide anything that an engine decides, and it asks a cloud for nothing but an inventory, which
// whoever wires the program lends it.
package policies

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/cli"
	"github.com/holdfast-backup/holdfast/internal/clock"
)

// Config is what the commands are made from.
type Config struct {
	Console *cli.Console
	Clock   clock.Clock
	Cloud   Cloud
	Getenv  func(string) string
}

// Cloud takes stock of the cloud that a file describes; "" stands for the one that the environment names.
type Cloud func(ctx context.Context, azureFile string) (holdfast.Inventory, error)

// New makes the commands, for the root command.
func New(config Config) []*cobra.Command {
	c := &commands{console: config.Console, clock: config.Clock, cloud: config.Cloud, getenv: config.Getenv}
	return []*cobra.Command{c.inventoryCommand(), c.policyCommand(), c.retentionCommand(), c.slaCommand()}
}

// commands is what they share. The files are those of the command that runs.
type commands struct {
	console *cli.Console
	clock   clock.Clock
	cloud   Cloud
	getenv  func(string) string

	azureFile     string
	inventoryFile string
}
