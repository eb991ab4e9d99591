// Package guest is what runs inside the twin's machines, as far as a backup can tell: an agent that runs commands and asks
// applications to write down what they hold, script files that the estate declares, and filesystems that can be frozen.
//
// It serves the action runCommand with the platform's manners: one command at a time, for running machines with an agent,
// 90 minutes, the last 4 KiB of output, and no exit code in the answer. It promises that a frozen filesystem takes no write
// of its guest: whoever writes as the guest goes through Write, which refuses, and a freeze that a caller knows of is in
// force for every later write. A frozen filesystem under the agent itself silences the agent, as it does in real guests. It
// must never run anything of a script outside of its own small interpreters.
//
// Sources (Microsoft Learn, 2026): "Run scripts in your Linux VM by using action Run Commands" and the same page for
// Windows; messages and forms of output as users reported them to Azure/azure-cli and MicrosoftDocs/azure-docs; "VM snapshot
// extension" for the fallback after a failed VSS writer.
package guest

import (
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/compute/armcompute/v8"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/clock"
	"github.com/holdfast-backup/holdfast/internal/twin/arm"
	"github.com/holdfast-backup/holdfast/internal/twin/compute/facts"
	"github.com/holdfast-backup/holdfast/internal/twin/estate"
	"github.com/holdfast-backup/holdfast/internal/twin/state"
	"github.com/holdfast-backup/holdfast/internal/twin/vdisk"
)

const (
	finishRan = "guest/ran"
	// commandTimeMax and outputBytesMax are the platform's limits of action Run Command.
	commandTimeMax = 90 * time.Minute
	outputBytesMax = 4096
	// fallbackAttempts follow a VSS writer that failed; they are consistent for filesystems alone.
	fallbackAttempts = 3
)

// Volumes are the disks that script files write to; *vdisk.Store has them.
type Volumes interface {
	WriteAt(id vdisk.ID, p []byte, off int64) (int, error)
}

// Config says what a Service needs; every field is required.
type Config struct {
	ARM     *arm.Server
	State   *state.Store
	Clock   clock.Clock
	Volumes Volumes
}

// Service is the guests of all machines. Safe for concurrent use.
type Service struct {
	arm     *arm.Server
	state   *state.Store
	clock   clock.Clock
	volumes Volumes

	// gate is held for reading by whoever writes as a guest, and taken once after each command that ran: what wrote before
	// a freeze has then ended, and what comes later sees it.
	gate sync.RWMutex
}

// Register adds the action runCommand to the machines of the ARM server.
func Register(config Config) (*Service, error) {
	if config.ARM == nil || config.State == nil || config.Clock == nil || config.Volumes == nil {
		return nil, holdfast.Errorf(holdfast.KindInvalid, "guests need ARM, a state, a clock and volumes")
	}
	s := &Service{arm: config.ARM, state: config.State, clock: config.Clock, volumes: config.Volumes}
	config.ARM.Act(facts.MachineType, "runCommand", arm.Action{Method: http.MethodPost, Write: true, Serve: s.runCommand})
	config.ARM.Finish(finishRan, s.ran)
	return s, nil
}

// Seed gives the machines of an estate their guests; one that is known already is left as it is.
func (s *Service) Seed(e estate.Estate) error {
	return s.state.Update(func(tx *state.Tx) error {
		for _, m := range e.VirtualMachines {
			group, _ := e.Group(m.ResourceGroup)
			machine := tx.Get("/subscriptions/" + e.SubscriptionID(group) + "/resourceGroups/" + group.Name + "/providers/" + facts.MachineType + "/" + m.Name)
			if machine == nil || tx.Get(documentID(machine)) != nil {
				continue
			}
			boot, _ := facts.Running(machine)
			h := &host{world: &world{Declared: m.Guest}}
			h.reboot(boot)
			if err := h.save(tx, machine); err != nil {
				return err
			}
		}
		return nil
	})
}

// Write runs write as the guest of the machine that a disk is attached to. While the disk's filesystem is frozen it is
// refused with KindConflict, and nothing is written. No freeze comes into force while write runs.
func (s *Service) Write(disk string, write func() error) error {
	if err := s.arm.Settle(); err != nil {
		return err
	}
	s.gate.RLock()
	defer s.gate.RUnlock()
	view := s.state.View()
	if doc := view.Get(disk); doc != nil {
		if machine := view.Get(doc.Body.Text("managedBy")); machine != nil {
			h, err := load(view, machine, s.clock.Now())
			if err != nil {
				return err
			}
			if h.isFrozen(doc.ID) {
				return holdfast.Errorf(holdfast.KindConflict, "the filesystem on the disk %s is frozen", doc.Body.Text("name")).
					WithHint("it takes writes again when it is thawed, or when the timer of the freeze ends")
			}
		}
	}
	return write()
}

// Frozen returns the mount points of a machine that are frozen at a moment, which may lie ahead: what is going on in the
// background then counts as done. It changes nothing.
func (s *Service) Frozen(machine string, at time.Time) ([]string, error) {
	if err := s.arm.Settle(); err != nil {
		return nil, err
	}
	view := s.state.View()
	doc := view.Get(machine)
	if doc == nil {
		return nil, holdfast.Errorf(holdfast.KindNotFound, "no virtual machine is called %s", machine)
	}
	h, err := load(view, doc, at)
	if err != nil {
		return nil, err
	}
	frozen := []string{}
	for _, m := range h.mounts {
		if h.Frozen[m.path] != "" {
			frozen = append(frozen, m.path)
		}
	}
	return frozen, nil
}

// Boot returns what a machine's present boot is known by: another text since each change of its power state.
func (s *Service) Boot(machine string) (string, error) {
	if err := s.arm.Settle(); err != nil {
		return "", err
	}
	doc := s.state.View().Get(machine)
	if doc == nil {
		return "", holdfast.Errorf(holdfast.KindNotFound, "no virtual machine is called %s", machine)
	}
	boot, _ := facts.Running(doc)
	return boot, nil
}

// Quiesce asks the guest's applications to write down what they hold, for a restore point.
func (s *Service) Quiesce(tx *state.Tx, machine *state.Document, now time.Time) (armcompute.ConsistencyModeTypes, *arm.Error) {
	h, err := load(tx.View, machine, now)
	switch {
	case err != nil:
		return "", arm.Errorf(http.StatusConflict, "VMRestorePointInternalError", "%v", err)
	case h.Declared.NoAgent || h.Frozen["/"] != "":
		return "", silent(machine)
	case !isWindows(machine) && h.Declared.SnapshotScripts:
		return armcompute.ConsistencyModeTypesApplicationConsistent, nil
	case !isWindows(machine):
		return armcompute.ConsistencyModeTypesFileSystemConsistent, nil
	case h.Fallback > 0:
		h.Fallback--
		err = h.save(tx, machine)
		if err == nil {
			return armcompute.ConsistencyModeTypesFileSystemConsistent, nil
		}
	case h.Declared.VSS == estate.VSSFailing:
		h.Fallback = fallbackAttempts
		if err = h.save(tx, machine); err == nil {
			return "", arm.Errorf(http.StatusConflict, "VMRestorePointClientError", "Restore point creation failed since a VSS writer of the virtual machine '%s' is in a bad state.", machine.ID)
		}
	}
	if err != nil {
		return "", arm.Errorf(http.StatusConflict, "VMRestorePointInternalError", "%v", err)
	}
	return armcompute.ConsistencyModeTypesApplicationConsistent, nil
}

func isWindows(machine *state.Document) bool {
	return strings.EqualFold(machine.Body.Text("properties.storageProfile.osDisk.osType"), string(armcompute.OperatingSystemTypesWindows))
}

// silent is what the platform says when it hears nothing of an agent.
func silent(machine *state.Document) *arm.Error {
	return arm.Errorf(http.StatusConflict, "VMAgentStatusCommunicationError",
		"VM '%s' has not reported status for VM agent or extensions. Verify that the VM has a running VM agent and can establish outbound connections to Azure storage.", machine.Body.Text("name"))
}
