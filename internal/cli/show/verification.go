package show

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/holdfast-backup/holdfast/internal/cli"
	"github.com/holdfast-backup/holdfast/internal/repo"
)

// Verification is the result of repo verify.
type Verification struct {
	repo.Report
	Proof Proof  `json:"proof"`
	Share *Share `json:"share,omitempty"`
}

// Proof tells what the log keeps of the verification.
type Proof struct {
	Recorded bool       `json:"recorded"`
	Reason   string     `json:"reason"`          // why nothing was recorded
	Since    *time.Time `json:"since,omitempty"` // every stored byte has been read since then; absent while a part never was
}

// Share tells about the share of --within.
type Share struct {
	Days     int       `json:"days"`
	DryRun   bool      `json:"dryRun"`
	Plan     repo.Plan `json:"plan"`
	Overhead int64     `json:"overheadRequests"`
	Cost     float64   `json:"cost"` // of the share, by the prices given
}

// Tell shows a verification to people: what was found, what to do about it, and what is proven by now.
func (v Verification) Tell(w io.Writer) error {
	if err := tellReport(w, v); err != nil {
		return err
	}
	return tellProof(w, v)
}

// tellProof says what is proven by now, and what the share cost.
func tellProof(w io.Writer, result Verification) error {
	var lines []string
	if s := result.Share; s != nil {
		lines = append(lines, fmt.Sprintf("Every byte within %d days: %s of %s due now, %d objects, %d requests and %d for the log and the lists, at a price of %.4f",
			s.Days, cli.Bytes(s.Plan.Due.Bytes), cli.Bytes(s.Plan.Stored.Bytes), s.Plan.Due.Objects, s.Plan.Due.Requests, s.Overhead, s.Cost))
		if s.Plan.Overdue.Objects > 0 {
			lines = append(lines, fmt.Sprintf("Overdue: %s in %d objects were read longer ago than that", cli.Bytes(s.Plan.Overdue.Bytes), s.Plan.Overdue.Objects))
		}
		if s.Plan.Never.Objects > 0 {
			lines = append(lines, fmt.Sprintf("Not yet read since they were written: up to %s in %d objects", cli.Bytes(s.Plan.Never.Bytes), s.Plan.Never.Objects))
		}
	}
	if !result.Proof.Recorded {
		lines = append(lines, "Nothing was recorded: "+result.Proof.Reason)
	}
	if result.OK && result.Proof.Since != nil {
		lines = append(lines, "Every byte was read "+Since(result.Proof.Since))
	}
	return cli.Lines(w, lines)
}

// Since says since when every byte has been read.
func Since(since *time.Time) string {
	if since == nil {
		return "not yet"
	}
	return "since " + cli.Time(*since)
}

func tellReport(w io.Writer, result Verification) error {
	report := result.Report
	verdict := "The repository is sound"
	if !report.OK {
		verdict = "The repository is damaged"
	}
	if _, err := fmt.Fprintf(w, "%s: %d objects, %s, checked at level %d\n", verdict, report.Checked, cli.Bytes(report.Bytes), report.Level); err != nil {
		return err
	}
	if report.Orphans > 0 {
		if _, err := fmt.Fprintf(w, "needed by no restore point, left by runs that died or still work: %d\n", report.Orphans); err != nil {
			return err
		}
	}
	if len(report.Shadowed) > 0 {
		_, err := fmt.Fprintf(w, "Somebody overwrote or deleted %d objects; their older versions are whole and answer in their place. The first: %s\n", len(report.Shadowed), cli.Printable(report.Shadowed[0]))
		if err != nil {
			return err
		}
	}
	for _, name := range report.Healed {
		if _, err := fmt.Fprintf(w, "healed   %s: it is damaged, and nothing needs it any more\n", name); err != nil {
			return err
		}
	}
	for _, o := range report.Objects {
		if _, err := fmt.Fprintf(w, "damaged  %s: %s\n", cli.Printable(o.Name), cli.Printable(o.Problem)); err != nil {
			return err
		}
	}
	for _, id := range report.Points {
		if _, err := fmt.Fprintf(w, "hit      restore point %s\n", id); err != nil {
			return err
		}
	}
	for _, vm := range report.VMs {
		if _, err := fmt.Fprintf(w, "hit      machine %s\n", vm); err != nil {
			return err
		}
	}
	if report.OK {
		return nil
	}
	return cli.Lines(w, whatToDo(report, result.Proof.Recorded || report.State.Damage != ""))
}

// whatToDo says what a person can do about damage.
func whatToDo(report repo.Report, recorded bool) []string {
	var lines []string
	if len(report.Points) > 0 {
		lines = append(lines, "Restore points that are not named are unhurt.")
	}
	packs, index, foreign := false, false, 0
	for _, o := range report.Objects {
		switch {
		case o.Foreign:
			foreign++
		case strings.HasPrefix(o.Name, "data/") || strings.HasPrefix(o.Name, "tree/"):
			packs = true
		case strings.HasPrefix(o.Name, "index/"):
			index = true
		}
	}
	if packs {
		lines = append(lines, "The next backup of each machine that is hit writes again what its disks still hold; older restore points are whole again then.")
		if !recorded {
			lines = append(lines, "It has to be told: verify once with the password, so that the damage is recorded.")
		}
	}
	if index {
		lines = append(lines, "Make the index anew with: holdfast repo rebuild-index.")
	}
	if foreign > 0 {
		lines = append(lines, "Move away what does not belong to the repository, and find out who put it there.")
	}
	if foreign < len(report.Objects) {
		lines = append(lines, "Bring the damaged objects back from a copy of the storage if there is one.")
	}
	return lines
}
