package guest

import (
	"context"

	"github.com/holdfast-backup/holdfast"
)

// outputMax is how much of a script's output an error quotes.
const outputMax = 300

// script runs a step and judges it. began says whether it may have run, whatever became of it.
func (r *round) script(ctx context.Context, step *Step, place string, result *ScriptResult) (began bool, err error) {
	if step == nil {
		return false, nil
	}
	command := r.command(place)
	command.File, command.Arguments = step.Path, step.Arguments
	result.Path = step.Path
	done, err := r.flow.commands.Run(ctx, command)
	if err != nil {
		return !holdfast.IsKind(err, holdfast.KindInvalid), holdfast.Wrap(holdfast.KindOf(err), err, "the script %s the snapshot could not be run to its end", place)
	}
	result.Missing, result.Ran, result.ExitCode, result.Output = done.Missing, !done.Missing, done.Status, done.Output
	failure := judge(place, *result)
	if failure == nil {
		return result.Ran, nil
	}
	if result.Missing && r.work.Processing.IgnoreMissingScripts || result.Ran && r.work.Processing.IgnoreExitCodes {
		r.warn(ctx, failure.Error())
		return result.Ran, nil
	}
	return result.Ran, failure
}

// judge says what is wrong with a script's end.
func judge(place string, result ScriptResult) error {
	switch {
	case result.Missing:
		return holdfast.Errorf(holdfast.KindNotFound, "there is no script %s in the guest, which was to run %s the snapshot", result.Path, place).
			WithHint("put it there, or let the policy ignore missing scripts")
	case result.ExitCode != 0:
		said := result.Output
		if len(said) > outputMax {
			said = "…" + said[len(said)-outputMax:]
		}
		return holdfast.Errorf(holdfast.KindConflict, "the script %s, which ran %s the snapshot, ended with exit code %d: %s", result.Path, place, result.ExitCode, said).
			WithHint("see to it in the guest, or let the policy ignore exit codes")
	}
	return nil
}
