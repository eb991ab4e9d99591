package main

import (
	"context"
	"crypto/rand"
	"errors"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/azure"
	"github.com/holdfast-backup/holdfast/internal/azureconfig"
	"github.com/holdfast-backup/holdfast/internal/blob/file"
	"github.com/holdfast-backup/holdfast/internal/cli/command"
	"github.com/holdfast-backup/holdfast/internal/demo"
	"github.com/holdfast-backup/holdfast/internal/demo/week"
	"github.com/holdfast-backup/holdfast/internal/repo"
	"github.com/holdfast-backup/holdfast/internal/twin"
	"github.com/holdfast-backup/holdfast/internal/twin/control"
)

// demoAttempts is how often a step of the demo is run when faults are on.
const demoAttempts = 5

type demoOptions struct {
	once   bool
	dir    string
	faults string
}

func (a *app) demoCommand() *cobra.Command {
	var o demoOptions
	cmd := &cobra.Command{
		Use: "demo", Short: "Protect and restore real filesystems, without an Azure account", Args: command.NoArguments,
		Long: `Start a twin with three machines on real filesystems (ext4, XFS, NTFS), back them up, let the guests change files, back up again,
restore one machine under a new name, compare every byte, and report. Then preview a week of two policies, let it pass in seconds on a twin that
misbehaves, hold what happened against the preview, and read every restore point. Without --once the twin stays up afterwards, to be played with.`,
		Example: `  holdfast demo --once
  holdfast demo --dir demo --faults faults.yaml`,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.demo(cmd.Context(), o) },
	}
	flags := cmd.Flags()
	flags.BoolVar(&o.once, "once", false, "end after the report")
	flags.StringVar(&o.dir, "dir", "", "folder for the twin and the repository (default: a temporary one, removed at the end)")
	flags.StringVar(&o.faults, "faults", "", "file that says what goes wrong in the twin")
	return cmd
}

func (a *app) demo(ctx context.Context, o demoOptions) (err error) {
	if o.dir == "" {
		if o.dir, err = os.MkdirTemp("", "holdfast-demo-"); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, os.RemoveAll(o.dir)) }()
	}
	stage, err := a.setStage(ctx, o)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, stage.close(ctx)) }()
	report := demoReport{}
	if report.Report, err = a.play(ctx, stage, o); err != nil {
		return err
	}
	if report.Week, err = a.week(ctx, o); err != nil {
		return err
	}
	if err := a.console.Result(report, report.Tell); err != nil {
		return err
	}
	if !report.OK || !report.Week.OK {
		return command.ErrTold
	}
	if !o.once {
		a.tellWhatToTry(stage, report.Report)
		<-ctx.Done()
	}
	return nil
}

// demoReport is both stories.
type demoReport struct {
	demo.Report

	Week week.Report `json:"week"`
}

// Tell prints both for a person.
func (r demoReport) Tell(w io.Writer) error {
	if err := r.Report.Tell(w); err != nil {
		return err
	}
	return r.Week.Tell(w)
}

// weekBegins is the Monday of the week that is fast-forwarded: always the same one, so that it always is the same story.
var weekBegins = time.Date(2026, time.March, 2, 0, 0, 0, 0, time.UTC)

// week tells the second story, in a folder of its own that goes again.
func (a *app) week(ctx context.Context, o demoOptions) (r week.Report, err error) {
	folder, err := os.MkdirTemp(o.dir, "week-")
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(folder)) }()
	return week.Run(ctx, week.Config{Folder: folder, From: weekBegins, Log: a.log(), Say: a.console.Note})
}

// play runs the story on a stage, with progress.
func (a *app) play(ctx context.Context, stage *stage, o demoOptions) (demo.Report, error) {
	attempts := 1
	if o.faults != "" {
		attempts = demoAttempts
	}
	return demo.Run(ctx, demo.Config{
		Folder: o.dir, Guests: guests{stage.guests}, Cloud: stage.azure, Repository: stage.repository, Clock: a.clock,
		Say: a.console.Note, AttemptsAtMost: attempts,
		Show: func() demo.Show {
			progress := a.console.NewProgress(a.clock)
			return demo.Show{Capture: showCapture(progress), Restore: showRestore(progress), End: progress.Wait}
		},
	})
}

// stage is what the demo plays on.
type stage struct {
	dir, repositoryDir, passwordFile string
	twin                             *twin.Twin
	guests                           *control.Client
	azure                            *azure.Client
	repository                       *repo.Repository
}

func (a *app) setStage(ctx context.Context, o demoOptions) (*stage, error) {
	s := &stage{dir: filepath.Join(o.dir, "twin"), repositoryDir: filepath.Join(o.dir, "repository"), passwordFile: filepath.Join(o.dir, "password")}
	if err := os.MkdirAll(s.dir, 0o700); err != nil {
		return nil, holdfast.Wrap(holdfast.KindInvalid, err, "the folder cannot be made").WithField("dir")
	}
	a.console.Note("Starting the twin, a simulated Azure, with three machines on real filesystems.")
	estate, err := demo.WriteEstate(ctx, o.dir)
	if err != nil {
		return nil, err
	}
	if s.twin, err = twin.Start(ctx, twin.Config{Dir: s.dir, EstateFile: estate, FaultFile: o.faults, Clock: a.clock, Log: a.log()}); err != nil {
		return nil, err
	}
	if err := s.connect(ctx, a); err != nil {
		return nil, errors.Join(err, s.close(ctx))
	}
	return s, nil
}

func (s *stage) connect(ctx context.Context, a *app) error {
	config, err := azureconfig.Read(s.twin.Endpoints().AzureFile)
	if err != nil {
		return err
	}
	if s.azure, err = azure.New(config, azure.Options{Clock: a.clock, Log: a.log()}); err != nil {
		return err
	}
	if s.guests, err = control.Dial(s.dir); err != nil {
		return err
	}
	s.repository, err = s.openRepository(ctx, a)
	return err
}

// openRepository opens the repository of an earlier demo in the folder, or makes one with a random password.
func (s *stage) openRepository(ctx context.Context, a *app) (*repo.Repository, error) {
	store, err := file.Open(s.repositoryDir, file.Options{})
	if err != nil {
		return nil, err
	}
	a.passwordFile = s.passwordFile
	password := rand.Text()
	if _, err := os.Stat(s.passwordFile); err == nil {
		if password, err = a.password(); err != nil {
			return nil, err
		}
	} else if err := os.WriteFile(s.passwordFile, []byte(password+"\n"), 0o600); err != nil {
		return nil, err
	}
	r, err := repo.Open(ctx, store, repo.OpenOptions{Password: password, Clock: a.clock, Tool: tool(), Log: a.log()})
	if holdfast.IsKind(err, holdfast.KindNotFound) {
		return repo.Init(ctx, store, repo.InitOptions{Password: password, Clock: a.clock, Tool: tool()})
	}
	return r, err
}

func (s *stage) close(ctx context.Context) error {
	if s.guests != nil {
		s.guests.Close()
	}
	if s.azure != nil {
		s.azure.CloseIdleConnections()
	}
	return s.twin.Close(context.WithoutCancel(ctx))
}

func (a *app) tellWhatToTry(s *stage, report demo.Report) {
	a.console.Note(`
The twin stays up until you press Ctrl-C. In another terminal, try (go run ./cmd/holdfast does for holdfast, too):

  export HOLDFAST_AZURE=%s HOLDFAST_REPO_PASSWORD=$(cat %s)
  holdfast vm list
  holdfast repo points --repo %s
  holdfast backup --repo %[3]s --vm %[4]s
  holdfast restore vm --repo %[3]s --point %[5]s --name my-web --resource-group %[6]s
  holdfast repo export --repo %[3]s --point %[5]s --disk os --out web.img
  holdfast repo verify --repo %[3]s
  holdfast twin resources --dir %[7]s
`, absolute(s.twin.Endpoints().AzureFile), absolute(s.passwordFile), absolute(s.repositoryDir), demo.Machines()[0].ID(), report.Restored,
		demo.Machines()[0].ID().ResourceGroup(), absolute(s.dir))
}

// absolute makes a path good for other terminals.
func absolute(path string) string {
	full, err := filepath.Abs(path)
	if err != nil {
		return path // best effort: it is still right in this folder
	}
	return full
}

// guests adapts the twin's back door to the demo.
type guests struct{ *control.Client }

// Write implements demo.Guests.
func (g guests) Write(ctx context.Context, diskID string, offset int64, content io.Reader, length int64) error {
	return g.Client.Write(ctx, diskID, offset, content, length)
}

// Resources implements demo.Guests.
func (g guests) Resources(ctx context.Context) ([]demo.Resource, error) {
	all, err := g.Client.Resources(ctx)
	resources := make([]demo.Resource, 0, len(all))
	for _, r := range all {
		resources = append(resources, demo.Resource{ID: r.ID, Type: r.Type, ActiveSAS: r.ActiveSAS})
	}
	return resources, err
}
