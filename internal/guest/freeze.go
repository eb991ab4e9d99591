package guest

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// The state of a freeze lies below /run, which no disk holds and no freeze reaches: `mounts` what may be frozen, `armed`
// that the timer runs, `ended` the claim of whoever ends it, `by` and `thawed` who that was and when, `unfrozen` what a
// thaw found frozen, `done` that it thawed all.
//
// Ending is: claim, then thaw all, claim or not. So whoever made the claim knows that until then this freeze was not ended
// from its own side. Another attempt's timer may still have come: therefore a thaw tells which mount points it found
// frozen, which the kernel knows, and a timer whose freeze was thawed in full does nothing. The thaw makes the folder as
// well, so that a freeze which comes after it finds it taken.
const freezeScript = `freeze='FOLDER'
if ! mkdir "$freeze" 2>/dev/null; then echo 'this freeze is over'; exit 3; fi
kept=''
while read -r device mount rest; do
case "$mount" in
/|/usr|/var|/var/lib|/var/lib/waagent|/var/log|/var/tmp|/tmp|/etc|/opt|/run) kept="$kept $device " ;;
esac
done </proc/mounts
chosen=''
seen=''
while read -r device mount type options rest; do
case "$device" in /dev/loop*) continue ;; /dev/*) ;; *) continue ;; esac
case "$type" in ext2|ext3|ext4|xfs|btrfs) ;; *) continue ;; esac
case "$options" in ro|ro,*) continue ;; esac
case "$kept" in *" $device "*) printf '%s\n' "left $mount"; continue ;; esac
case "$seen" in *" $device "*) continue ;; esac
case "$mount" in *"\\"*) printf '%s\n' "left $mount"; continue ;; esac
seen="$seen $device "
chosen="$mount $chosen"
done </proc/mounts
printf '%s\n' "$chosen" >"$freeze/mounts"
setsid sh -c 'mkdir "$1/armed"; sleep "$2"; if [ -s "$1/done" ]; then exit 0; fi; if mkdir "$1/ended" 2>/dev/null; then echo timer >"$1/by"; date +%s >"$1/thawed"; fi; for mount in $(cat "$1/mounts"); do fsfreeze -u "$mount" 2>/dev/null; done' timer "$freeze" SECONDS </dev/null >/dev/null 2>&1 &
waited=''
while [ ! -d "$freeze/armed" ]; do
case "$waited" in xxxxx*) echo 'the timer did not start'; exit 4 ;; esac
waited="x$waited"
sleep 1
done
date +%s >"$freeze/began"
for mount in $chosen; do
if fsfreeze -f "$mount"; then printf '%s\n' "frozen $mount"; else printf '%s\n' "left $mount"; fi
done
if [ -d "$freeze/ended" ]; then
for mount in $chosen; do fsfreeze -u "$mount" 2>/dev/null; done
echo 'the timer ended before all was frozen'
exit 5
fi
`

const thawScript = `freeze='FOLDER'
mkdir "$freeze" 2>/dev/null
if mkdir "$freeze/ended" 2>/dev/null; then echo command >"$freeze/by"; date +%s >"$freeze/thawed"; fi
if [ -s "$freeze/mounts" ]; then
for mount in $(cat "$freeze/mounts"); do
if fsfreeze -u "$mount" 2>/dev/null; then printf '%s\n' "unfrozen $mount" >>"$freeze/unfrozen"; fi
done
fi
echo yes >"$freeze/done"
by=timer
if [ -s "$freeze/by" ]; then by=$(cat "$freeze/by"); fi
echo "by $by"
if [ -s "$freeze/began" ]; then
echo "began $(cat "$freeze/began")"
fi
if [ -s "$freeze/thawed" ]; then
echo "thawed $(cat "$freeze/thawed")"
fi
if [ -s "$freeze/unfrozen" ]; then cat "$freeze/unfrozen"; fi
exit 0
`

// freezeText and thawText fill in a freeze's folder, whose name is that of a ticket.
func freezeText(name string, timer time.Duration) string {
	return strings.NewReplacer("FOLDER", "/run/holdfast/"+ticket(name, "freeze-state"), "SECONDS", strconv.Itoa(int(timer/time.Second))).Replace(freezeScript)
}

func thawText(name string) string {
	return strings.NewReplacer("FOLDER", "/run/holdfast/"+ticket(name, "freeze-state")).Replace(thawScript)
}

// freeze freezes what can be frozen and reports whether it is known to be. A freeze that fails is a warning: the snapshot
// is taken without it, and nothing is claimed.
func (r *round) freeze(ctx context.Context) bool {
	r.result.Freeze.By = ThawedUnknown
	command := r.command("freeze")
	command.Script = freezeText(r.work.Name, r.plan.FreezeFor)
	done, err := r.flow.commands.Run(ctx, command)
	if err != nil {
		r.warn(ctx, "the guest's filesystems were not frozen, or nobody knows: "+err.Error())
		return false
	}
	r.result.Freeze.Frozen, r.result.Freeze.Left = mountsIn(done.Output)
	switch {
	case done.Status != 0:
		r.warn(ctx, fmt.Sprintf("the guest's filesystems could not be frozen (exit code %d): %s", done.Status, strings.TrimSpace(done.Output)))
		return false
	case done.OutputBytes > len(done.Output):
		r.warn(ctx, "the guest has more mount points than its answer could hold")
		return false
	case len(r.result.Freeze.Frozen) == 0:
		r.warn(ctx, "no filesystem of the guest can be frozen: the VM agent lives on the only disk")
		return false
	}
	return true
}

func mountsIn(output string) (frozen, left []string) {
	for line := range strings.Lines(output) {
		line = strings.TrimSuffix(line, "\n")
		if mount, found := strings.CutPrefix(line, "frozen "); found {
			frozen = append(frozen, mount)
		}
		if mount, found := strings.CutPrefix(line, "left "); found {
			left = append(left, mount)
		}
	}
	return frozen, left
}

// thaw ends the freeze, whatever became of it and of the caller, and tells who ended it.
func (r *round) thaw(ctx context.Context, frozen bool) {
	cleanup, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanupTime)
	defer cancel()
	var problem error
	for attempt := 1; attempt <= thawsMax; attempt++ {
		command := r.command("thaw-" + strconv.Itoa(attempt))
		command.Script = thawText(r.work.Name)
		done, err := r.flow.commands.Run(cleanup, command)
		if err == nil && done.Status == 0 {
			r.thawed(ctx, done.Output, frozen)
			return
		}
		problem = err
		if err == nil {
			problem = fmt.Errorf("exit code %d: %s", done.Status, strings.TrimSpace(done.Output))
		}
	}
	r.warn(ctx, fmt.Sprintf("the guest could not be thawed; its own timer does it %s after the freeze: %v", r.plan.FreezeFor, problem))
}

// thawed reads who ended the freeze, and whether all of it was still there.
func (r *round) thawed(ctx context.Context, output string, frozen bool) {
	said, held := map[string]string{}, map[string]bool{}
	for line := range strings.Lines(output) {
		name, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), " ")
		said[name] = value
		if name == "unfrozen" {
			held[value] = true
		}
	}
	result := &r.result.Freeze
	result.By = ThawedByTimer
	if said["by"] == "command" {
		result.By = ThawedByUs
	}
	began, err := strconv.ParseInt(said["began"], 10, 64)
	ended, endErr := strconv.ParseInt(said["thawed"], 10, 64)
	if err == nil && endErr == nil && ended >= began {
		result.Took = time.Duration(ended-began) * time.Second
	}
	gone := slices.ContainsFunc(result.Frozen, func(mount string) bool { return !held[mount] })
	result.Held = frozen && result.By == ThawedByUs && !gone
	if frozen && !result.Held {
		r.warn(ctx, "the guest was thawed by a timer, or by somebody else, perhaps before the snapshot was taken: the snapshot is not claimed to be frozen")
	}
}
