package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/cli"
	"github.com/holdfast-backup/holdfast/internal/cli/command"
	"github.com/holdfast-backup/holdfast/internal/repo"
)

func (a *app) keyCommand() *cobra.Command {
	return command.Group(a.console, "key", "List, add, change and revoke what opens a repository",
		`Several passwords, recovery codes and vault keys may open a repository; each has a slot of its own. Changing them rewrites no data. A program
that has the repository open goes on, except after "rotate --revoke".`,
		a.keyList(), a.keyAdd(), a.keyRemove(), a.keyRotate())
}

func (a *app) keyList() *cobra.Command {
	cmd := &cobra.Command{
		Use: "list", Short: "List the key slots", Args: command.NoArguments,
		Example: `  holdfast repo key list --repo /backups --password-file secret`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			r, err := a.openRepository(cmd.Context())
			if err != nil {
				return err
			}
			report, err := r.Keys(cmd.Context())
			if err != nil {
				return err
			}
			return a.console.Result(report, func(w io.Writer) error { return tellKeys(w, report) })
		},
	}
	a.repoFlags(cmd)
	return cmd
}

func tellKeys(w io.Writer, report repo.KeyReport) error {
	var rows [][]string
	for _, s := range report.Slots {
		since, state := "", "in force"
		if !s.Since.IsZero() {
			since = cli.Time(s.Since)
		}
		switch {
		case s.Problem != "":
			state = s.Problem
		case s.Used:
			state = "in force, used now"
		case !s.Current:
			state = "old: opens nothing any more"
		}
		rows = append(rows, []string{s.ID[:12], slotKind(s), s.Label, since, state, s.VaultKey})
	}
	if err := cli.Table(w, []string{"SLOT", "KIND", "LABEL", "SINCE", "STATE", "VAULT KEY"}, rows); err != nil {
		return err
	}
	_, err := fmt.Fprintf(w, "generation %d of %d; checksum %s\n", report.Generation, report.Generations, report.Checksum)
	return err
}

// slotKind is how people call a kind of slot.
func slotKind(s repo.Slot) string {
	switch {
	case s.RecoveryCode:
		return "recovery code"
	case s.Kind == "vault":
		return "vault key"
	case s.Kind == "open":
		return "none"
	}
	return s.Kind
}

// newSlotFlags are the flags that say what a new slot is opened by.
type newSlotFlags struct {
	passwordFile string
	slot         repo.NewSlot
}

func (a *app) keyAdd() *cobra.Command {
	var f newSlotFlags
	cmd := &cobra.Command{
		Use: "add", Short: "Add a password, a recovery code or a vault key, or change one", Args: command.NoArguments,
		Long: `Add a password, a recovery code or a vault key. With --replace it takes the place of another slot in the same moment: that is how a password is
changed. Who knows an old password and kept a copy of its slot can still compute the repository key: see "rotate --revoke". A repository that is not encrypted
becomes so with its first slot; there is no way back.`,
		Example: `  holdfast repo key add --repo /backups --password-file secret --new-password-file night-shift --label "night shift"
  holdfast repo key add --repo /backups --password-file secret --new-password-file new-secret --replace 3f9a
  holdfast repo key add --repo /backups --password-file secret --recovery-code --label safe
  holdfast repo key add --repo /backups --password-file secret --azure azure.yaml --vault-key https://shop.vault.azure.net/keys/backup`,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.addKey(cmd.Context(), f) },
	}
	a.repoFlags(cmd)
	flags := cmd.Flags()
	flags.StringVar(&f.passwordFile, "new-password-file", "", "file whose first line is the new password")
	flags.StringVar(&f.slot.VaultKey, "vault-key", "", "URL of an RSA key in Key Vault, with or without its version")
	flags.BoolVar(&f.slot.RecoveryCode, "recovery-code", false, "draw a code for paper and print it once")
	flags.StringVar(&f.slot.Label, "label", "", "name for people")
	flags.StringVar(&f.slot.Replaces, "replace", "", "slot that goes: its label, or the beginning of its id")
	return cmd
}

func (a *app) addKey(ctx context.Context, f newSlotFlags) error {
	var err error
	if f.passwordFile != "" {
		if f.slot.Password, err = passwordIn(f.passwordFile, "new-password-file"); err != nil {
			return err
		}
	}
	r, err := a.openRepository(ctx)
	if err != nil {
		return err
	}
	change, err := r.AddSlot(ctx, f.slot)
	return a.tellKeyChange(change, err)
}

func (a *app) keyRemove() *cobra.Command {
	var slot string
	cmd := &cobra.Command{
		Use: "remove", Short: "End a key slot", Args: command.NoArguments,
		Long: `End a key slot: what opened it opens the repository no more. The last slot cannot be removed. Who knows the old password and kept a copy of
its slot can still compute the repository key: see "rotate --revoke".`,
		Example: `  holdfast repo key remove --repo /backups --password-file secret --slot "night shift"`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			r, err := a.openRepository(cmd.Context())
			if err != nil {
				return err
			}
			change, err := r.RemoveSlot(cmd.Context(), slot)
			return a.tellKeyChange(change, err)
		},
	}
	a.repoFlags(cmd)
	cmd.Flags().StringVar(&slot, "slot", "", "the slot: its label, or the beginning of its id")
	command.Required(cmd, "slot")
	return cmd
}

func (a *app) keyRotate() *cobra.Command {
	var o repo.RotateOptions
	var also []string
	cmd := &cobra.Command{
		Use: "rotate", Short: "Use a new generation of keys from now on, or revoke the old key", Args: command.NoArguments,
		Long: `Use a new generation of keys for all that is written from now on; what is stored stays as it is and readable.

With --revoke the repository key is replaced, too. Each slot that stays is wrapped anew, for which its secret is needed: the one given to open the repository,
those in --also-password-file, vault keys by themselves; name the others with --drop. Programs that have the repository open fail at their next look and
are run again. What was written before stays readable to who kept an old secret and a copy of an old slot: the result names it.`,
		Example: `  holdfast repo key rotate --repo /backups --password-file secret
  holdfast repo key rotate --repo /backups --password-file secret --revoke --drop "night shift" --also-password-file code`,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.rotateKeys(cmd.Context(), o, also) },
	}
	a.repoFlags(cmd)
	cmd.Flags().BoolVar(&o.Revoke, "revoke", false, "replace the repository key")
	cmd.Flags().StringArrayVar(&also, "also-password-file", nil, "with --revoke: file with the password or recovery code of another slot that stays; may be repeated")
	cmd.Flags().StringArrayVar(&o.Drop, "drop", nil, "with --revoke: slot that ends: its label, or the beginning of its id; may be repeated")
	return cmd
}

func (a *app) rotateKeys(ctx context.Context, o repo.RotateOptions, also []string) error {
	if !o.Revoke && len(also)+len(o.Drop) > 0 {
		return holdfast.Errorf(holdfast.KindInvalid, "slots stay as they are unless the key is revoked").WithField("revoke").
			WithHint("add --revoke, or leave --drop and --also-password-file out; to end one slot: holdfast repo key remove")
	}
	password, err := a.password()
	if err != nil {
		return err
	}
	o.Passwords = append(o.Passwords, password)
	for _, file := range also {
		if password, err = passwordIn(file, "also-password-file"); err != nil {
			return err
		}
		o.Passwords = append(o.Passwords, password)
	}
	r, err := a.openRepository(ctx)
	if err != nil {
		return err
	}
	change, err := r.Rotate(ctx, o)
	return a.tellKeyChange(change, err)
}

func (a *app) tellKeyChange(change repo.KeyChange, err error) error {
	if err != nil {
		return err
	}
	return a.console.Result(change, func(w io.Writer) error { return cli.Lines(w, keyChangeLines(change)) })
}

func keyChangeLines(change repo.KeyChange) []string {
	var lines []string
	for _, s := range change.Added {
		lines = append(lines, strings.TrimSpace(fmt.Sprintf("in force from now on: %s  %s  %s  %s", s.ID[:12], slotKind(s), s.Label, s.VaultKey)))
	}
	for _, s := range change.Dropped {
		lines = append(lines, strings.TrimSpace(fmt.Sprintf("opens nothing any more: %s  %s  %s", s.ID[:12], slotKind(s), s.Label)))
	}
	lines = append(lines, fmt.Sprintf("What is written from now on is sealed with generation %d.", change.Generation))
	if change.RecoveryCode != "" {
		lines = append(lines, "", "    "+change.RecoveryCode, "",
			"This is the recovery code. It opens the repository by itself, is kept nowhere, and is not shown again: write it down.")
	}
	if change.Exposed != nil {
		lines = append(lines, fmt.Sprintf("%d restore points were written before and stay readable to who kept an old secret and a copy of one of %d old key slots.",
			len(change.Exposed.Points), len(change.Exposed.Slots)),
			"The old slots go in the next collection, unless a lock holds them.")
	}
	if len(change.Added)+len(change.Dropped) > 0 || change.Exposed != nil {
		lines = append(lines, "Print a new recovery kit: holdfast repo kit")
	}
	return lines
}

// passwordIn reads the password in the first line of a file that the flag names.
func passwordIn(file, flag string) (string, error) {
	content, err := os.ReadFile(file)
	if err != nil {
		return "", holdfast.Wrap(holdfast.KindInvalid, err, "the password file cannot be read").WithField(flag).
			WithHint("name a file whose first line is the password")
	}
	password, _, _ := strings.Cut(string(content), "\n")
	password = strings.TrimSuffix(password, "\r")
	if password == "" {
		return "", holdfast.Errorf(holdfast.KindInvalid, "the password file %s is empty", file).WithField(flag).
			WithHint("write the password into its first line")
	}
	return password, nil
}
