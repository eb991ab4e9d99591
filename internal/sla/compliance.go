package sla

import (
	"cmp"
	"iter"
	"math/big"
	"slices"
	"strconv"
	"time"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/civil"
)

// Status is the verdict on a machine, or on a policy.
type Status string

// The verdicts.
const (
	MetSLA    Status = "MetSLA"
	MissedSLA Status = "MissedSLA"
	Removed   Status = "Removed" // of a machine: it left inside a window, is counted and not scored
	None      Status = "none"    // nothing was met or missed
)

// Count is what became of the slots that fell due for a machine in one entry. Planned is the sum of Met, Missed, Excused
// and Open.
type Count struct {
	Planned int `json:"planned"`
	Met     int `json:"met"`
	Missed  int `json:"missed"`
	Excused int `json:"excused"`
	Open    int `json:"open"`
	Proven  int `json:"proven"` // of those met: how many have a point that counts as proven
}

// rated is the number of slots on which a ratio stands.
func (c Count) rated() int { return c.Met + c.Missed }

func (c Count) plus(o Count) Count {
	return Count{c.Planned + o.Planned, c.Met + o.Met, c.Missed + o.Missed, c.Excused + o.Excused, c.Open + o.Open, c.Proven + o.Proven}
}

// MachineCompliance is what one machine achieved in one entry. Ratios are in percent, nil where nothing was met or missed,
// or the machine was removed.
type MachineCompliance struct {
	Machine holdfast.ResourceID `json:"machine"`
	Count
	Created     *float64 `json:"createdPercent,omitempty"`
	ProvenRatio *float64 `json:"provenPercent,omitempty"`
	Status      Status   `json:"status"`
}

// Judge says what machines achieved against one target. Most have the same few counts, so each pair of them is judged once. It is not for
// several goroutines at once; what it returns is shared and not to be changed.
type Judge struct {
	verdicts verdicts
	shares   map[[2]int]*float64
}

// NewJudge returns a judge of an entry with a target.
func NewJudge(targetPercent float64) *Judge {
	return &Judge{verdicts: verdicts{targetPercent: targetPercent}, shares: map[[2]int]*float64{}}
}

// Machine returns what a machine with these counts achieved.
func (j *Judge) Machine(id holdfast.ResourceID, count Count, removed bool) MachineCompliance {
	c := MachineCompliance{Machine: id, Count: count, Status: None}
	n := count.rated()
	switch {
	case removed:
		c.Status = Removed
		return c
	case n == 0:
		return c
	}
	c.Created, c.ProvenRatio, c.Status = j.percent(count.Met, n), j.percent(count.Proven, n), MissedSLA
	if j.verdicts.reached(count.Met, n) {
		c.Status = MetSLA
	}
	return c
}

func (j *Judge) percent(over, under int) *float64 {
	key := [2]int{over, under}
	share, found := j.shares[key]
	if !found {
		var m mean
		m.add(over, under)
		share = m.percent()
		j.shares[key] = share
	}
	return share
}

// Compliance is what a policy achieved with one row in one entry of a chart: a day, a week from Monday on, or a month.
type Compliance struct {
	Policy string `json:"policy"`
	Row
	Entry         civil.Date `json:"entry"` // its first day
	Closed        time.Time  `json:"closed,omitzero"`
	Frozen        time.Time  `json:"frozen,omitzero"` // since then the share of proven points stays as it is
	TargetPercent float64    `json:"targetPercent"`   // of the version to which its last expectation belongs
	Machines      Machines   `json:"machines"`
	Count                    // of the machines that were not removed
	Created       *float64   `json:"createdPercent,omitempty"` // the mean over the machines that have a ratio; nil where none has
	ProvenRatio   *float64   `json:"provenPercent,omitempty"`
	Status        Status     `json:"status"`       // of the ratio of created points against the target
	ProvenStatus  Status     `json:"provenStatus"` // of the ratio of proven ones
}

// Machines counts machines by their verdict.
type Machines struct {
	Total   int `json:"total"`
	Met     int `json:"met"`
	Missed  int `json:"missed"`
	Removed int `json:"removed"`
	None    int `json:"none"`
}

// Proven is the point of an expectation that was met, as it stands now.
type Proven struct {
	Machine  holdfast.ResourceID
	Standing Standing
}

// ProvenNow says what the share of proven points in an entry would be by the template that is in force now: the mean, in
// percent, over the machines that have a ratio. The points are those that met the expectations of the entry. One that retention removed does
// not count. It returns nil where no machine has a ratio. It changes no figure: frozen ones stay.
func ProvenNow(machines []MachineCompliance, points iter.Seq[Proven], t holdfast.SLATemplate, now time.Time) *float64 {
	count := make(map[string]int)
	for p := range points {
		if p.Standing.Removed.IsZero() && p.Standing.Holds(t.ProofLevel, t.ProofAge, now) {
			count[p.Machine.Key()]++
		}
	}
	var m mean
	for _, c := range machines {
		if c.Status != Removed && c.rated() > 0 {
			m.add(count[c.Machine.Key()], c.rated())
		}
	}
	return m.percent()
}

// mean is the unweighted mean of fractions, kept exact: numerators are gathered by denominator, of which there are few.
type mean struct {
	n    int
	part []fraction // by denominator, in order
}

type fraction struct{ over, under int64 }

func (m *mean) add(over, under int) {
	m.n++
	k, found := slices.BinarySearchFunc(m.part, int64(under), func(f fraction, under int64) int { return cmp.Compare(f.under, under) })
	if !found {
		m.part = slices.Insert(m.part, k, fraction{under: int64(under)})
	}
	m.part[k].over += int64(over)
}

func (m *mean) sum() *big.Rat {
	sum := new(big.Rat)
	for _, f := range m.part {
		sum.Add(sum, big.NewRat(f.over, f.under))
	}
	return sum
}

// percent returns the mean, rounded once; nil when it is of nothing.
func (m *mean) percent() *float64 {
	if m.n == 0 {
		return nil
	}
	value, _ := new(big.Rat).Mul(m.sum(), big.NewRat(100, int64(m.n))).Float64()
	return &value
}

// status is the verdict on a mean.
func (m *mean) status(targetPercent float64) Status {
	switch {
	case m.n == 0:
		return None
	case m.reaches(targetPercent):
		return MetSLA
	}
	return MissedSLA
}

// reaches says whether the mean is the target or more. It is exact, so that a target of 99.9 % is reached by 999 of 1,000.
func (m *mean) reaches(targetPercent float64) bool {
	target := new(big.Rat).Mul(exactly(targetPercent), big.NewRat(int64(m.n), 100))
	return m.sum().Cmp(target) >= 0
}

// exactly returns a target as it was written in decimals.
func exactly(targetPercent float64) *big.Rat {
	target, ok := new(big.Rat).SetString(strconv.FormatFloat(targetPercent, 'f', -1, 64))
	holdfast.Invariant(ok, "%v is no target", targetPercent)
	return target
}

// verdicts judges machines against one target. Most have the same few counts, so each pair is judged once.
type verdicts struct {
	targetPercent float64
	known         map[[2]int]bool
}

func (v *verdicts) reached(over, under int) bool {
	key := [2]int{over, under}
	verdict, found := v.known[key]
	if !found {
		var m mean
		m.add(over, under)
		verdict = m.reaches(v.targetPercent)
		if v.known == nil {
			v.known = make(map[[2]int]bool)
		}
		v.known[key] = verdict
	}
	return verdict
}
