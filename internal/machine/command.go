package machine

import (
	"time"

	"github.com/holdfast-backup/holdfast"
)

// Command is something to run in a guest: a script file that is there, or on Linux a text.
type Command struct {
	Machine holdfast.ResourceID
	OS      string // Linux or Windows
	// Ticket is the command's name, chosen before the call: 8 to 64 letters, digits and '-'. A guest runs a ticket at most
	// once in each of its boots; asked again, it tells how the first time ended.
	Ticket    string
	File      string   // path of a script file
	Arguments []string // of File
	Script    string   // instead of File: text for sh
	// Wait is how long other commands in the guest are waited for; Azure runs one at a time.
	Wait time.Duration
}

// CommandResult is how a command ended.
type CommandResult struct {
	Missing     bool   // there is no File in the guest; nothing ran
	Status      int    // exit code
	Output      string // of both streams, cut to its end
	OutputBytes int    // before it was cut
}
