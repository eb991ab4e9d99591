// Package demo tells the story of Holdfast on real filesystems: three machines of a twin are backed up, their guests change
// files, they are backed up again, one is restored under a new name, and every byte is compared.
//
// It promises to report what it saw and nothing else: every figure comes from the run that is reported, and the comparison
// reads the disks of the source and of the restored machine out of the twin, not out of Holdfast. The twin, the cloud client
// and the repository come from the caller.
package demo

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/capture"
	"github.com/holdfast-backup/holdfast/internal/cli"
	"github.com/holdfast-backup/holdfast/internal/clock"
	"github.com/holdfast-backup/holdfast/internal/repo"
	"github.com/holdfast-backup/holdfast/internal/restore"
)

// Guests is what happens inside the machines, out of Holdfast's sight: the twin's back door.
type Guests interface {
	Write(ctx context.Context, diskID string, offset int64, content io.Reader, length int64) error
	ReadFile(ctx context.Context, diskID, file string) (size int64, err error)
	Resources(ctx context.Context) ([]Resource, error)
}

// Resource is one resource of the cloud.
type Resource struct {
	ID        string
	Type      string
	ActiveSAS int
}

// Cloud is what protects and restores.
type Cloud interface {
	capture.Source
	restore.Cloud
}

// Config says what to work with; all fields are required.
type Config struct {
	Folder         string // for files that are compared, removed again
	Guests         Guests
	Cloud          Cloud
	Repository     *repo.Repository
	Clock          clock.Clock
	Say            func(format string, args ...any) // one line of the story
	Show           func() Show                      // how one backup or restore is watched
	AttemptsAtMost int                              // of each step, for twins that misbehave; 1 for one that does not
}

// Show watches one backup or restore.
type Show struct {
	Capture func(capture.Progress)
	Restore func(restore.Progress)
	End     func(error) // called once, with how the work ended
}

// Report is what the demo saw.
type Report struct {
	OK       bool             `json:"ok"`
	Backups  []BackupReport   `json:"backups"`
	Restore  RestoreReport    `json:"restore"`
	Verify   repo.Report      `json:"verify"`
	Cloud    CloudReport      `json:"cloud"`
	Saved    int64            `json:"savedBytes"` // disk content that was read and not stored again, or stored smaller
	Stored   int64            `json:"storedBytes"`
	Disks    int64            `json:"diskBytes"` // size of all protected disks
	Took     float64          `json:"tookSeconds"`
	Restored holdfast.PointID `json:"restoredPoint"`
}

// BackupReport is one backup of one machine.
type BackupReport struct {
	capture.Result
	Round    string  `json:"round"` // first or again
	Attempts int     `json:"attempts"`
	Took     float64 `json:"tookSeconds"`
}

// RestoreReport is the restored machine and how it compares with the source, byte for byte.
type RestoreReport struct {
	restore.Result
	Attempts      int     `json:"attempts"`
	ComparedBytes int64   `json:"comparedBytes"`
	Equal         bool    `json:"equal"`
	Took          float64 `json:"tookSeconds"`
}

// CloudReport is what is left in the cloud at the end.
type CloudReport struct {
	Snapshots int `json:"snapshots"` // one base for each protected disk
	ActiveSAS int `json:"activeSas"` // must be 0
	Expected  int `json:"expectedSnapshots"`
}

// Run tells the story once.
func Run(ctx context.Context, c Config) (Report, error) {
	began := c.Clock.Now()
	s := &story{c: c}
	steps := []func(context.Context) error{s.first, s.change, s.again, s.restore, s.compare, s.verify, s.lookAround}
	for _, step := range steps {
		if err := step(ctx); err != nil {
			return s.report, err
		}
	}
	s.report.Took = c.Clock.Now().Sub(began).Seconds()
	s.sumUp()
	return s.report, nil
}

type story struct {
	c      Config
	report Report
	point  holdfast.PointID // the newest of the machine that is restored
	name   string           // of the restored machine
}

// first backs up every machine for the first time, or anew where the demo ran before.
func (s *story) first(ctx context.Context) error {
	s.c.Say("First backup of %d machines: everything that is allocated is read.", len(Machines()))
	return s.backUpAll(ctx, "first")
}

func (s *story) again(ctx context.Context) error {
	s.c.Say("Second backup: only what changed is read.")
	return s.backUpAll(ctx, "again")
}

func (s *story) backUpAll(ctx context.Context, round string) error {
	for _, m := range Machines() {
		began := s.c.Clock.Now()
		var result capture.Result
		attempts, err := s.insist(ctx, "backup of "+m.Name, func() (err error) {
			before, show := s.c.Repository.BytesAdded(), s.c.Show()
			defer func() { show.End(err) }()
			flow, err := capture.New(capture.Config{Source: s.c.Cloud, Repository: s.c.Repository, Clock: s.c.Clock, Progress: show.Capture})
			if err != nil {
				return err
			}
			if result, err = flow.Run(ctx, m.ID(), capture.Options{}); err == nil {
				result.StoredBytes = s.c.Repository.BytesAdded() - before
			}
			return err
		})
		if err != nil {
			return err
		}
		s.report.Backups = append(s.report.Backups, BackupReport{
			Result: result, Round: round, Attempts: attempts, Took: s.c.Clock.Now().Sub(began).Seconds(),
		})
		if m.Name == RestoredFrom {
			s.point = result.Point
		}
	}
	return nil
}

// insist repeats a step that the twin's faults made fail. Running again is all that a failed run needs.
func (s *story) insist(ctx context.Context, what string, do func() error) (attempts int, err error) {
	for attempts = 1; ; attempts++ {
		err = do()
		if err == nil || attempts >= s.c.AttemptsAtMost || ctx.Err() != nil {
			return attempts, err
		}
		s.c.Say("The %s failed (%s); running it again.", what, cli.Sentence(err))
	}
}

func (s *story) restore(ctx context.Context) error {
	s.name = fmt.Sprintf("%s-restored-%s", RestoredFrom, s.point[len(s.point)-4:])
	s.c.Say("Restoring %s from point %s under the name %s.", RestoredFrom, s.point, s.name)
	began := s.c.Clock.Now()
	attempts, err := s.insist(ctx, "restore", func() (err error) {
		show := s.c.Show()
		defer func() { show.End(err) }()
		flow, err := restore.New(restore.Config{Cloud: s.c.Cloud, Repository: s.c.Repository, Clock: s.c.Clock, Progress: show.Restore})
		if err != nil {
			return err
		}
		plan, err := flow.Plan(ctx, restore.Request{Point: s.point, Name: s.name, ResourceGroup: resourceGroup})
		if err != nil {
			return err
		}
		s.report.Restore.Result, err = flow.Run(ctx, plan)
		return err
	})
	s.report.Restore.Attempts, s.report.Restored = attempts, s.point
	s.report.Restore.Took = s.c.Clock.Now().Sub(began).Seconds()
	return err
}

// lookAround counts what is left in the cloud.
func (s *story) lookAround(ctx context.Context) error {
	resources, err := s.c.Guests.Resources(ctx)
	if err != nil {
		return err
	}
	for _, r := range resources {
		s.report.Cloud.ActiveSAS += r.ActiveSAS
		if holdfast.ResourceID(r.Type).Equal("Microsoft.Compute/snapshots") {
			s.report.Cloud.Snapshots++
		}
	}
	for _, m := range Machines() {
		s.report.Cloud.Expected += len(m.Disks)
	}
	return nil
}

func (s *story) verify(ctx context.Context) error {
	s.c.Say("Verifying the repository: every stored byte, every chunk of every restore point.")
	report, err := s.c.Repository.Verify(ctx, repo.VerifyComplete)
	s.report.Verify = report
	return err
}

func (s *story) sumUp() {
	r := &s.report
	for _, m := range Machines() {
		for _, d := range m.Disks {
			r.Disks += int64(d.SizeGiB) << 30
		}
	}
	var read int64
	for _, b := range r.Backups {
		r.Stored += b.StoredBytes
		read += b.ReadBytes
	}
	r.Saved = read - r.Stored
	r.OK = r.Restore.Equal && r.Verify.OK && r.Cloud.ActiveSAS == 0 && r.Cloud.Snapshots == r.Cloud.Expected
	for _, d := range r.Restore.Disks {
		r.OK = r.OK && d.Equal
	}
}

// took formats seconds of a report.
func took(seconds float64) time.Duration { return time.Duration(seconds * float64(time.Second)) }
