package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/cli/command"
	"github.com/holdfast-backup/holdfast/internal/kit"
	"github.com/holdfast-backup/holdfast/internal/repo"
	"github.com/holdfast-backup/holdfast/internal/storage"
)

func (a *app) repoKit() *cobra.Command {
	var out string
	var force bool
	cmd := &cobra.Command{
		Use: "kit", Short: "Print the recovery kit: one page that brings the disks back", Args: command.NoArguments,
		Long: `Print the recovery kit: a page of plain text with the repository's address and id, its key slots and their checksum, the state of its log, and the
exact commands that bring the disks back, without a server and at last without Holdfast. It holds no secret. For a secret on paper, make a recovery code
("repo key add --recovery-code") and keep it in another place than this page.`,
		Example: `  holdfast repo kit --repo /backups --password-file secret | lp
  holdfast repo kit --repo azblob://shopvault/backups/eu --azure azure.yaml --password-file secret --out kit.txt`,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.writeKit(cmd.Context(), out, force) },
	}
	a.repoFlags(cmd)
	cmd.Flags().StringVar(&out, "out", "", "file to write; left out: standard output")
	cmd.Flags().BoolVar(&force, "force", false, "replace a file that exists")
	return cmd
}

// kitResult is the result of `repo kit`.
type kitResult struct {
	Repository string       `json:"repository"`
	Checksum   string       `json:"checksum"`
	LogHead    repo.LogHead `json:"logHead"`
	File       string       `json:"file"` // "" when the page went to standard output
	Page       string       `json:"page"`
}

func (a *app) writeKit(ctx context.Context, out string, force bool) error {
	r, err := a.openRepository(ctx)
	if err != nil {
		return err
	}
	facts, err := a.kitFacts(ctx, r)
	if err != nil {
		return err
	}
	page := kit.Page(facts)
	if out != "" {
		if err := writeNew(out, page, force); err != nil {
			return err
		}
	}
	result := kitResult{Repository: r.ID(), Checksum: facts.Checksum, LogHead: r.LogHead(), File: out, Page: page}
	return a.console.Result(result, func(w io.Writer) error {
		if out != "" {
			page = fmt.Sprintf("The recovery kit is in %s: print it, and keep it where the password is not.\n", out)
		}
		_, err := io.WriteString(w, page)
		return err
	})
}

func (a *app) kitFacts(ctx context.Context, r *repo.Repository) (kit.Facts, error) {
	info, err := r.Info(ctx)
	if err != nil {
		return kit.Facts{}, err
	}
	report, err := r.Keys(ctx)
	if err != nil {
		return kit.Facts{}, err
	}
	head := r.LogHead()
	facts := kit.Facts{
		Address: info.URL, ID: info.ID, Format: info.Format, Owner: info.Owner, Checksum: report.Checksum, Entry: head.Entry, Hash: head.Hash,
		Points: info.Points, Machines: info.VMs, Printed: a.clock.Now(), Tool: tool(),
	}
	for _, s := range report.Slots {
		if s.Current {
			facts.Slots = append(facts.Slots, kit.Slot{ID: s.ID, Kind: slotKind(s), Label: s.Label, Since: s.Since, VaultKey: s.VaultKey})
		}
	}
	where, err := storage.Parse(a.repository)
	if err != nil {
		return kit.Facts{}, err
	}
	if facts.Folder, err = filepath.Abs(where.Folder); where.Folder == "" || err != nil {
		facts.Folder = ""
	}
	if where.Folder == "" {
		facts.Address = a.repository
		facts.Download = []string{download(where)}
	}
	return facts, nil
}

// download is the command that brings a repository on Blob storage into ./copy.
func download(where storage.Location) string {
	if where.Prefix == "" {
		return fmt.Sprintf("az storage blob download-batch --account-name %s --source %s --destination ./copy", where.Account, where.Container)
	}
	return fmt.Sprintf("az storage blob download-batch --account-name %s --source %s --pattern '%s/*' --destination .", where.Account, where.Container, where.Prefix) +
		" && mv '" + where.Prefix + "' ./copy"
}

// writeNew writes a file for its owner alone; one that is there is replaced with force only.
func writeNew(file, content string, force bool) error {
	flags := os.O_WRONLY | os.O_CREATE | os.O_EXCL
	if force {
		flags = os.O_WRONLY | os.O_CREATE | os.O_TRUNC
	}
	f, err := os.OpenFile(file, flags, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return holdfast.Errorf(holdfast.KindInvalid, "the file %s exists", file).WithField("out").WithHint("name another one, or add --force")
	}
	if err == nil {
		_, err = f.WriteString(content)
		err = errors.Join(err, f.Close())
	}
	if err != nil {
		return holdfast.Wrap(holdfast.KindInvalid, err, "the file %s cannot be written", file).WithField("out")
	}
	return nil
}
