package guest_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/guest"
	"github.com/holdfast-backup/holdfast/internal/machine"
)

func scripts(before, after, arguments string) holdfast.GuestScripts {
	return holdfast.GuestScripts{Before: holdfast.Script{Path: before, Arguments: arguments}, After: holdfast.Script{Path: after}}
}

// TestDecide has a row for each rule of what runs in a guest.
func TestDecide(t *testing.T) {
	both := holdfast.GuestProcessing{Linux: scripts("/opt/before.sh", "/opt/after.sh", ""), Windows: scripts(`C:\before.ps1`, "", "")}
	backups := both
	backups.BackupsOnly = true
	for name, row := range map[string]struct {
		change                 func(*guest.Work)
		before, after, skipped string
		freeze                 time.Duration
	}{
		"linux":         {func(*guest.Work) {}, "/opt/before.sh", "/opt/after.sh", "", time.Minute},
		"windows":       {func(w *guest.Work) { w.Machine.OS = "Windows" }, `C:\before.ps1`, "", "Windows guests", 0},
		"stopped":       {func(w *guest.Work) { w.Machine.Power = "deallocated" }, "", "", "not running", 0},
		"power unknown": {func(w *guest.Work) { w.Machine.Power = "" }, "", "", "not running", 0},
		"stopped, nothing asked": {func(w *guest.Work) {
			w.Machine.Power, w.Processing, w.FreezeFor = "stopped", holdfast.GuestProcessing{}, 0
		}, "", "", "", 0},
		"backups only, a snapshot":    {func(w *guest.Work) { w.Processing = backups }, "", "", "", time.Minute},
		"backups only, with a backup": {func(w *guest.Work) { w.Processing, w.FeedsBackup = backups, true }, "/opt/before.sh", "/opt/after.sh", "", time.Minute},
		"no freeze":                   {func(w *guest.Work) { w.FreezeFor = 0 }, "/opt/before.sh", "/opt/after.sh", "", 0},
	} {
		work := guest.Work{Machine: machine.VM{Name: "db", OS: "Linux", Power: "running"}, Processing: both, Name: "attempt", FreezeFor: time.Minute}
		row.change(&work)
		plan, err := guest.Decide(work)
		path := func(s *guest.Step) string {
			if s == nil {
				return ""
			}
			return s.Path
		}
		if err != nil || path(plan.Before) != row.before || path(plan.After) != row.after || plan.FreezeFor != row.freeze ||
			!strings.Contains(strings.Join(plan.Skipped, " "), row.skipped) || (len(plan.Skipped) == 0) != (row.skipped == "") {
			t.Errorf("%s: %+v, %v", name, plan, err)
		}
	}
}

// TestDecide_Arguments: words by quotes, variables inside of words, and nothing else that a shell would see.
func TestDecide_Arguments(t *testing.T) {
	for arguments, want := range map[string][]string{
		"": nil, "  a  b ": {"a", "b"}, `"a b" 'c "d"' ""`: {"a b", `c "d"`, ""}, `x="a b"`: {"x=a b"},
		"%instanceName% --policy %policyName%(%policyId%)": {"db 1", "--policy", "daily $(reboot)(p-1)"},
		"%unknown% $HOME `id` ; rm":                        {"%unknown%", "$HOME", "`id`", ";", "rm"},
	} {
		plan, err := guest.Decide(guest.Work{
			Machine: machine.VM{Name: "db 1", OS: "Linux", Power: "running"}, Processing: holdfast.GuestProcessing{Linux: scripts("/a.sh", "", arguments)},
			Name: "attempt", PolicyID: "p-1", PolicyName: "daily $(reboot)",
		})
		if err != nil || !slices.Equal(plan.Before.Arguments, want) {
			t.Errorf("%q: %q, %v", arguments, plan.Before, err)
		}
	}
}

// TestDecide_Refusals of what cannot be carried out.
func TestDecide_Refusals(t *testing.T) {
	running := machine.VM{Name: "db", OS: "Linux", Power: "running"}
	for name, work := range map[string]guest.Work{
		"an open quote":  {Machine: running, Name: "a", Processing: holdfast.GuestProcessing{Linux: scripts("/a.sh", "", `"a`)}},
		"no name":        {Machine: running, Processing: holdfast.GuestProcessing{Linux: scripts("/a.sh", "", "")}},
		"a short freeze": {Machine: running, Name: "a", FreezeFor: time.Millisecond},
		"a long freeze":  {Machine: running, Name: "a", FreezeFor: time.Hour},
		"half a second":  {Machine: running, Name: "a", FreezeFor: 1500 * time.Millisecond},
	} {
		if _, err := guest.Decide(work); !holdfast.IsKind(err, holdfast.KindInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
