package remote

import (
	"context"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/api/client"
	"github.com/holdfast-backup/holdfast/internal/cli"
	"github.com/holdfast-backup/holdfast/internal/cli/command"
	"github.com/holdfast-backup/holdfast/internal/view"
)

// loginFlags say to which server and as whom.
type loginFlags struct {
	user, passwordFile, ca string
	keep                   bool
}

func (c *commands) loginCommand() *cobra.Command {
	var o loginFlags
	cmd := &cobra.Command{
		Use: "login", Short: "Sign in to a Holdfast server", Args: command.NoArguments,
		Long: `Sign in to a Holdfast server. The token that the server gives, its address and the certificates of --ca are kept in a file that only
you can read; the password is not. Several servers may be signed in to: the last one is asked, unless a command is given --server.`,
		Example: `  holdfast login --server https://backup.example.com:8460 --user anna --password-file secret
  holdfast login --server https://127.0.0.1:8443 --user admin --password-file secret --ca data/tls.crt`,
		RunE: func(cmd *cobra.Command, _ []string) error { return c.signIn(cmd.Context(), o) },
	}
	flags := cmd.Flags()
	flags.StringVar(&c.server, "server", "", "address of the server: https://HOST:PORT")
	flags.StringVar(&c.loginFile, "login", "", "file that keeps the sign-in (or HOLDFAST_LOGIN; default: holdfast/login.json in your folder of settings)")
	flags.StringVar(&o.user, "user", "", "name of the user")
	flags.StringVar(&o.passwordFile, "password-file", "", "file whose first line is the user's password")
	flags.StringVar(&o.ca, "ca", "", "file with certificates that are trusted for this server, such as the one that it made for itself")
	flags.BoolVar(&o.keep, "keep", false, "stay signed in for thirty days after the last use, instead of twelve hours")
	command.Required(cmd, "server", "user", "password-file")
	return cmd
}

// signedInRow is the result of login. It holds no token.
type signedInRow struct {
	Server  string    `json:"server"`
	User    string    `json:"user"`
	Role    string    `json:"role"`
	Expires time.Time `json:"expires"`
}

func (c *commands) signIn(ctx context.Context, o loginFlags) error {
	path, err := c.loginPath()
	if err != nil {
		return err
	}
	all, err := readLogins(path)
	if err != nil {
		return err
	}
	if err := checkPrivate(c.server); err != nil {
		return err
	}
	password, err := firstLine(o.passwordFile, "password-file")
	if err != nil {
		return err
	}
	in := login{}
	if o.ca != "" {
		certs, err := os.ReadFile(o.ca)
		if err != nil {
			return holdfast.Wrap(holdfast.KindInvalid, err, "the certificates cannot be read").WithField("ca").WithHint("name a file with certificates in PEM")
		}
		in.Certs = string(certs)
	}
	server, err := client.New(client.Config{Server: c.server, Certs: in.Certs, Clock: c.clock})
	if err != nil {
		return err
	}
	made, err := server.SignIn(ctx, view.SignIn{User: o.user, Password: password, Keep: o.keep})
	if err != nil {
		return err
	}
	in.Server, in.User, in.Token, in.Expires = server.Server(), made.User, made.Token, made.Expires
	if err := all.with(in).write(path); err != nil {
		return err
	}
	return c.result(signedInRow{in.Server, made.User, made.Role, made.Expires}, func(w io.Writer) error {
		_, err := fmt.Fprintf(w, "Signed in to %s as %s (%s), until %s at least.\n", in.Server, made.User, made.Role, cli.Time(made.Expires))
		return err
	})
}

func (c *commands) logoutCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "logout", Short: "Sign out of a Holdfast server", Args: command.NoArguments,
		Long: `Sign out of a Holdfast server: the token ends there, and is removed from the file that keeps it. When the server does not answer, the
file forgets the token all the same, and a note says that it is still good until it ends by itself.`,
		Example: `  holdfast logout
  holdfast logout --server https://backup.example.com:8460`,
		RunE: func(cmd *cobra.Command, _ []string) error { return c.signOut(cmd.Context()) },
	}
	c.serverFlags(cmd)
	return cmd
}

func (c *commands) signOut(ctx context.Context) error {
	path, err := c.loginPath()
	if err != nil {
		return err
	}
	all, err := readLogins(path)
	if err != nil {
		return err
	}
	in, err := all.choose(c.server)
	if err != nil {
		return err
	}
	server, err := client.New(client.Config{Server: in.Server, Token: in.Token, Certs: in.Certs, Clock: c.clock})
	if err != nil {
		return err
	}
	if err := server.SignOut(ctx); err != nil && !client.IsUnauthenticated(err) {
		c.console.Note("Warning: the server was not told (%s): the token is good there until it ends by itself.", cli.Sentence(err))
	}
	if err := all.without(in.Server).write(path); err != nil {
		return err
	}
	return c.result(struct {
		Server string `json:"server"`
		User   string `json:"user"`
	}{in.Server, in.User}, func(w io.Writer) error {
		_, err := fmt.Fprintf(w, "Signed out of %s.\n", in.Server)
		return err
	})
}

// whoRow is the result of whoami.
type whoRow struct {
	Server  string `json:"server"`
	Version string `json:"version"`
	view.Me
}

func (c *commands) whoamiCommand() *cobra.Command {
	return c.asking(&cobra.Command{
		Use: "whoami", Short: "Say which server is asked, and as whom",
		Example: `  holdfast whoami`,
	}, func(ctx context.Context, server *client.Client, _ []string) error {
		me, err := server.Me(ctx)
		if err != nil {
			return err
		}
		about, err := server.About(ctx)
		if err != nil {
			return err
		}
		return c.result(whoRow{server.Server(), about.Version, me}, func(w io.Writer) error {
			if _, err := fmt.Fprintf(w, "%s at %s (Holdfast %s): %s, who may\n", me.User, server.Server(), about.Version, me.Role); err != nil {
				return err
			}
			for _, right := range me.Rights {
				if _, err := fmt.Fprintf(w, "  %s\n", right); err != nil {
					return err
				}
			}
			return nil
		})
	})
}
