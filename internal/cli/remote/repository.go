package remote

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/api/client"
	"github.com/holdfast-backup/holdfast/internal/cli"
	"github.com/holdfast-backup/holdfast/internal/cli/command"
	"github.com/holdfast-backup/holdfast/internal/document"
	"github.com/holdfast-backup/holdfast/internal/view"
)

func (c *commands) repositoryCommand() *cobra.Command {
	return command.Group(c.console, "repository", "Look at the server's repositories, add and remove them",
		`Look at the repositories that the server writes to, add and remove them. To work on a repository without a server, see: holdfast repo --help`,
		c.repositoryListCommand(), c.repositoryShowCommand(), c.repositoryAddCommand(), c.repositoryRemoveCommand())
}

func (c *commands) repositoryListCommand() *cobra.Command {
	return c.asking(&cobra.Command{
		Use: "list", Short: "List the server's repositories",
		Example: `  holdfast repository list`,
	}, func(ctx context.Context, server *client.Client, _ []string) error {
		repositories, err := server.Repositories(ctx)
		if err != nil {
			return err
		}
		if repositories == nil {
			repositories = []view.Repository{}
		}
		return c.result(repositories, func(w io.Writer) error {
			var rows [][]string
			for _, r := range repositories {
				rows = append(rows, []string{r.Name, orNone(r.Region), orNone(r.Tier), yesNo(r.Encrypted), yesNo(r.Immutable), fmt.Sprint(r.Backups), fmt.Sprint(r.Archives), cli.Bytes(r.StoredBytes), r.URL})
			}
			return table(w, []string{"NAME", "REGION", "TIER", "ENCRYPTED", "LOCKS", "BACKUPS", "ARCHIVES", "STORED", "URL"}, rows,
				"There are no repositories yet. Add one with: holdfast repository add NAME --url URL --password-file FILE")
		})
	})
}

func yesNo(yes bool) string {
	if yes {
		return "yes"
	}
	return "no"
}

func (c *commands) repositoryShowCommand() *cobra.Command {
	return c.asking(&cobra.Command{
		Use: "show NAME", Short: "Show a repository of the server, looked at now", Args: words("NAME"),
		Example: `  holdfast repository show hot`,
	}, func(ctx context.Context, server *client.Client, args []string) error {
		r, err := server.Repository(ctx, args[0])
		if err != nil {
			return err
		}
		return c.result(r, func(w io.Writer) error {
			return fields(w, [][2]string{
				{"repository", r.Name},
				{"description", r.Description},
				{"url", r.URL},
				{"id", r.ID},
				{"owner", r.Owner},
				{"region", r.Region},
				{"tier", r.Tier},
				{"redundancy", r.Redundancy},
				{"encrypted", yesNo(r.Encrypted)},
				{"locks", yesNo(r.Immutable)},
				{"backups", fmt.Sprint(r.Backups)},
				{"archives", fmt.Sprint(r.Archives)},
				{"stored", cli.Bytes(r.StoredBytes)},
				{"used by", strings.Join(r.UsedBy, ", ")},
				{"looked at", timeOrNone(r.Checked)},
				{"PROBLEM", r.Problem},
			})
		})
	})
}

// addFlags declare a repository.
type addFlags struct {
	file, passwordFile         string
	url, region, tier          string
	redundancy, vaultKey, text string
	immutable, unencrypted     bool
}

// declaring are the flags that stand for fields of a document.
func declaring() []string {
	return []string{"url", "password-file", "region", "tier", "redundancy", "vault-key", "description", "immutable", "unencrypted"}
}

func (c *commands) repositoryAddCommand() *cobra.Command {
	var o addFlags
	cmd := &cobra.Command{
		Use: "add [NAME]", Short: "Declare a repository, and open or make it",
		Long: `Declare a repository on the server, and open it or, where there is none, make it. The flags stand for the fields of a document of kind
Repository; -f takes one that is written already. The password is read on this machine and handed to the server, which seals it. A repository that is made
has a recovery code, which is shown once.`,
		Example: `  holdfast repository add hot --url azblob://shopvault/backups/hot --region westeurope --password-file secret
  holdfast repository add shelf --url /srv/holdfast/shelf --password-file secret
  holdfast repository add -f hot.yaml`,
		Args: cobra.ArbitraryArgs,
	}
	flags := cmd.Flags()
	flags.StringVarP(&o.file, "file", "f", "", "file with the document of the repository, in place of NAME and the other flags")
	flags.StringVar(&o.url, "url", "", "where it is: a folder of the server, file:///FOLDER or azblob://ACCOUNT/CONTAINER/FOLDER")
	flags.StringVar(&o.passwordFile, "password-file", "", "file whose first line is the repository's password (or HOLDFAST_REPO_PASSWORD with the password itself)")
	flags.StringVar(&o.vaultKey, "vault-key", "", "instead of a password: URL of an RSA key in Key Vault")
	flags.BoolVar(&o.unencrypted, "unencrypted", false, "neither: whoever reads the storage reads the backups")
	flags.StringVar(&o.region, "region", "", "region of the storage account")
	flags.StringVar(&o.tier, "tier", "", "access tier: hot, cool, cold, archive or inferred (the account's own, which is the default)")
	flags.StringVar(&o.redundancy, "redundancy", "", "redundancy of the storage account, for costs: LRS, ZRS, GRS or GZRS")
	flags.BoolVar(&o.immutable, "immutable", false, "lock what restore points need until their retention ends")
	flags.StringVar(&o.text, "description", "", "a description, for people")
	return c.asking(cmd, func(ctx context.Context, server *client.Client, args []string) error {
		in, err := c.declared(cmd, args, o)
		if err != nil {
			return err
		}
		made, err := server.AddRepository(ctx, in)
		if err != nil {
			return err
		}
		return c.result(made, func(w io.Writer) error { return tellConnected(w, made) })
	})
}

// declared returns what the flags, or the file, declare.
func (c *commands) declared(cmd *cobra.Command, args []string, o addFlags) (view.AddRepository, error) {
	if o.file == "" {
		if err := words("NAME")(cmd, args); err != nil {
			return view.AddRepository{}, err
		}
		return c.declaredByFlags(args[0], o)
	}
	for _, flag := range declaring() {
		if cmd.Flags().Changed(flag) {
			return view.AddRepository{}, holdfast.Errorf(holdfast.KindInvalid, "--%s and -f exclude each other", flag).WithField(flag).WithHint("write it into the document")
		}
	}
	if len(args) > 0 {
		return view.AddRepository{}, holdfast.Errorf(holdfast.KindInvalid, "%q is too much: the document of -f has a name", args[0]).WithField("file").WithHint("leave the name away")
	}
	return c.declaredByFile(o.file)
}

func (c *commands) declaredByFile(path string) (view.AddRepository, error) {
	files, err := document.Load(path)
	if err != nil {
		return view.AddRepository{}, err
	}
	if len(files) != 1 {
		return view.AddRepository{}, holdfast.Errorf(holdfast.KindInvalid, "%s holds %d files", path, len(files)).WithField("file").WithHint("name one file; many documents are put in force with holdfast apply")
	}
	f := files[0]
	in := view.AddRepository{Document: view.File{Name: f.Name, Folder: f.Folder, Data: string(f.Data)}}
	for _, s := range document.Secrets(f) {
		secret, there, err := c.lookUp(s)
		if err != nil {
			return in, err
		}
		if there && s.Kind == document.KindRepository {
			in.Password = secret
		}
	}
	return in, nil
}

// declaredByFlags writes the document that the flags stand for.
func (c *commands) declaredByFlags(name string, o addFlags) (in view.AddRepository, err error) {
	if o.url == "" {
		return in, holdfast.Errorf(holdfast.KindInvalid, "--url is missing: where the repository is").WithField("url").WithHint("write a folder of the server, file:///FOLDER or azblob://ACCOUNT/CONTAINER/FOLDER")
	}
	spec := holdfast.RepositorySpec{
		Name: name, Description: o.text, URL: o.url, Region: o.region, Tier: holdfast.Tier(o.tier), Redundancy: holdfast.Redundancy(o.redundancy), Immutable: o.immutable,
		Encrypted: !o.unencrypted, KeyID: o.vaultKey,
	}
	if spec.Tier == "" {
		spec.Tier = holdfast.TierInferred
	}
	if err := c.opening(&spec, &in, o.passwordFile); err != nil {
		return in, err
	}
	text, err := document.Write(holdfast.Documents{Repositories: []holdfast.RepositorySpec{spec}})
	if err != nil {
		return in, err
	}
	in.Document = view.File{Name: "repository add", Folder: "/", Data: string(text)}
	if _, _, err := document.Read(document.File{Name: in.Document.Name, Folder: in.Document.Folder, Data: text}); err != nil {
		return in, asFlags(err)
	}
	return in, nil
}

// opening says what opens a repository: a password of this machine, a vault's key, or nothing.
func (c *commands) opening(spec *holdfast.RepositorySpec, in *view.AddRepository, passwordFile string) (err error) {
	const variable = "HOLDFAST_REPO_PASSWORD"
	switch {
	case passwordFile != "":
		if in.Password, err = firstLine(passwordFile, "password-file"); err != nil {
			return err
		}
		if spec.Password.File, err = filepath.Abs(passwordFile); err != nil {
			return holdfast.Wrap(holdfast.KindInternal, err, "the folder of %s has no absolute path", passwordFile)
		}
	case spec.KeyID != "" || !spec.Encrypted:
	case c.getenv(variable) != "":
		in.Password, spec.Password.Environment = c.getenv(variable), variable
	default:
		return holdfast.Errorf(holdfast.KindInvalid, "nothing says what opens the repository").WithField("password-file").WithHint("give --password-file FILE, --vault-key URL or --unencrypted")
	}
	return nil
}

// asFlags turns mistakes in the document that flags stand for into mistakes in the flags.
func asFlags(err error) error {
	var mistakes document.Mistakes
	if !errors.As(err, &mistakes) {
		return err
	}
	flags := map[string]string{"vaultKey": "vault-key", "passwordFrom": "password-file", "encrypted": "unencrypted"}
	all := make([]error, 0, len(mistakes))
	for _, m := range mistakes {
		field := m.Field
		if flag, ok := flags[field]; ok {
			field = flag
		}
		all = append(all, holdfast.Errorf(holdfast.KindInvalid, "%s: %s", field, m.Text).WithField(field).WithHint("%s", m.Hint))
	}
	return errors.Join(all...)
}

func (c *commands) repositoryRemoveCommand() *cobra.Command {
	var yes bool
	cmd := &cobra.Command{
		Use: "remove NAME", Short: "Have the server forget a repository", Args: words("NAME"),
		Long:    `Have the server forget a repository that no policy and no template uses. What is stored in it stays, and can be worked with by holdfast repo.`,
		Example: `  holdfast repository remove hot`,
	}
	yesFlag(cmd, &yes)
	return c.asking(cmd, func(ctx context.Context, server *client.Client, args []string) error {
		if err := c.confirm(yes, "Have the server forget the repository %s?", args[0]); err != nil {
			return err
		}
		if err := server.RemoveRepository(ctx, args[0]); err != nil {
			return err
		}
		return c.removed(args[0], "The server has forgotten the repository "+args[0]+"; what is stored in it stays.")
	})
}
