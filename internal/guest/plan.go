package guest

import (
	"crypto/sha256"
	"encoding/hex"
	"strings"
	"time"

	"github.com/holdfast-backup/holdfast"
)

// Plan is what will happen in a guest. It can be shown before anything does.
type Plan struct {
	Before    *Step // nil: no script
	After     *Step
	FreezeFor time.Duration // 0: no freeze
	Skipped   []string      // what the policy asks for and does not happen here, with the reason
}

// Step is a script with its arguments, variables filled in.
type Step struct {
	Path      string
	Arguments []string
}

// Decide makes the plan: scripts of the machine's system, in running machines alone, and only for a snapshot that feeds a
// backup if the policy says so.
func Decide(work Work) (Plan, error) {
	scripts := work.Processing.Linux
	if work.Machine.OS == "Windows" {
		scripts = work.Processing.Windows
	}
	wanted := scripts.Before.Path != "" || scripts.After.Path != "" || work.FreezeFor > 0
	if err := check(work, wanted); err != nil || !wanted {
		return Plan{}, err
	}
	if work.Machine.Power != "running" {
		return Plan{Skipped: []string{"nothing ran in the guest of " + work.Machine.Name + ": the machine is not running"}}, nil
	}
	var plan Plan
	if work.Processing.BackupsOnly && !work.FeedsBackup {
		scripts = holdfast.GuestScripts{} // as it was asked for; nothing to tell
	}
	var err error
	if plan.Before, err = step(scripts.Before, work); err != nil {
		return Plan{}, err
	}
	if plan.After, err = step(scripts.After, work); err != nil {
		return Plan{}, err
	}
	switch {
	case work.FreezeFor > 0 && work.Machine.OS == "Windows":
		plan.Skipped = append(plan.Skipped, "no filesystem was frozen: Windows guests are made consistent by an application-consistent restore point")
	default:
		plan.FreezeFor = work.FreezeFor
	}
	return plan, nil
}

func check(work Work, wanted bool) error {
	switch {
	case wanted && work.Name == "":
		return holdfast.Errorf(holdfast.KindInvalid, "the attempt has no name")
	case work.FreezeFor != 0 && (work.FreezeFor < FreezeMin || work.FreezeFor > FreezeMax || work.FreezeFor%time.Second != 0):
		return holdfast.Errorf(holdfast.KindInvalid, "a freeze of %s is not accepted", work.FreezeFor).WithHint("%s to %s, in whole seconds", FreezeMin, FreezeMax)
	}
	return nil
}

func step(script holdfast.Script, work Work) (*Step, error) {
	if script.Path == "" {
		return nil, nil
	}
	words, err := split(script.Arguments)
	if err != nil {
		return nil, err
	}
	variables := strings.NewReplacer("%instanceName%", work.Machine.Name, "%policyId%", work.PolicyID, "%policyName%", work.PolicyName)
	for i := range words {
		words[i] = variables.Replace(words[i])
	}
	return &Step{Path: script.Path, Arguments: words}, nil
}

// split cuts arguments into words at blanks. Quotes of either sort keep blanks together; a quote has no other meaning, and
// nothing is expanded. Variables are filled in afterwards, so that a name with blanks stays one argument.
func split(arguments string) ([]string, error) {
	var words []string
	var word strings.Builder
	open, quote := false, rune(0)
	for _, c := range arguments {
		switch {
		case quote != 0 && c == quote:
			quote = 0
		case quote != 0:
			word.WriteRune(c)
		case c == '"' || c == '\'':
			open, quote = true, c
		case c == ' ' || c == '\t':
			if open {
				words = append(words, word.String())
				word.Reset()
			}
			open = false
		default:
			open = true
			word.WriteRune(c)
		}
	}
	if quote != 0 {
		return nil, holdfast.Errorf(holdfast.KindInvalid, "the arguments %q have a quote without an end", arguments).WithField("arguments")
	}
	if open {
		words = append(words, word.String())
	}
	return words, nil
}

// ticket names a step of an attempt, in letters that a guest's folder can have.
func ticket(name, step string) string {
	sum := sha256.Sum256([]byte(name + "\x00" + step))
	return step + "-" + hex.EncodeToString(sum[:16])
}
