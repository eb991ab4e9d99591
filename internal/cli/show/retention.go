package show

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/cli"
	"github.com/holdfast-backup/holdfast/internal/retention"
)

// Retention is the result of `retention explain`.
type Retention struct {
	At       time.Time          `json:"at"`
	NextPass time.Time          `json:"nextPass"`
	Keep     int                `json:"keep"`
	Remove   int                `json:"remove"`
	Machines []RetentionMachine `json:"machines"`
}

// RetentionMachine is what is said of one machine's points.
type RetentionMachine struct {
	VM        holdfast.ResourceID `json:"vm"`
	Policy    string              `json:"policy"` // that made the newest point; empty where a person made all of them
	Protected bool                `json:"protected"`
	Zone      string              `json:"zone"`
	Points    []retention.Verdict `json:"points"`
}

// Add adds a machine, and counts its points.
func (r *Retention) Add(m RetentionMachine) {
	for _, v := range m.Points {
		if v.Keep {
			r.Keep++
		} else {
			r.Remove++
		}
	}
	r.Machines = append(r.Machines, m)
}

// Tell prints a table for each machine, and the sum.
func (r Retention) Tell(w io.Writer) error {
	for _, m := range r.Machines {
		if _, err := fmt.Fprintf(w, "%s\n%s\n\n", m.VM, protection(m)); err != nil {
			return err
		}
		var rows [][]string
		for _, v := range m.Points {
			rows = append(rows, verdictRow(v))
		}
		if err := cli.Table(w, []string{"CREATED", "POINT", "KIND", "FLAGS", "VERDICT", "UNTIL", "BECAUSE"}, rows); err != nil {
			return err
		}
		if _, err := fmt.Fprintln(w); err != nil {
			return err
		}
	}
	_, err := fmt.Fprintf(w, "%s at %s: %d stay, %d go. The next daily pass is at %s.\n",
		cli.Count(r.Keep+r.Remove, "restore point"), cli.Time(r.At), r.Keep, r.Remove, cli.Time(r.NextPass))
	return err
}

func protection(m RetentionMachine) string {
	switch {
	case m.Protected:
		return fmt.Sprintf("protected by policy %s, days of %s", m.Policy, m.Zone)
	case m.Policy == "":
		return "no policy made any of its restore points"
	}
	return fmt.Sprintf("not protected: no document has policy %s any more; the rules stored with the restore points apply", m.Policy)
}

func verdictRow(v retention.Verdict) []string {
	flags, verdict, until := v.Point.Flags.String(), "keep", ""
	if v.Lost != 0 {
		flags = strings.TrimSpace(flags + " -" + v.Lost.String())
	}
	if !v.Keep {
		verdict = "remove"
	}
	if !v.Until.IsZero() {
		until = cli.Time(v.Until)
	}
	reasons := make([]string, len(v.Reasons))
	for i, r := range v.Reasons {
		reasons[i] = r.Text()
	}
	return []string{cli.Time(v.Point.Created), string(v.Point.ID), string(v.Point.Kind), flags, verdict, until, strings.Join(reasons, "; ")}
}
