package remote

import (
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/api/client"
	"github.com/holdfast-backup/holdfast/internal/cli"
	"github.com/holdfast-backup/holdfast/internal/view"
)

// machineOf returns the id of a machine that a person named.
func machineOf(ctx context.Context, server *client.Client, named string) (holdfast.ResourceID, error) {
	if strings.HasPrefix(named, "/") {
		id, err := holdfast.ParseResourceID(named)
		if e, ok := err.(*holdfast.Error); ok { //nolint:errorlint // it is returned bare
			return "", e.WithField("vm")
		}
		return id, err
	}
	machines, _, err := gather(0, func(limit int, after string) (view.List[view.Machine], error) {
		return server.Machines(ctx, client.MachineFilter{Search: named, Gone: true, Limit: limit, After: after})
	})
	if err != nil {
		return "", err
	}
	var found []string
	for _, m := range machines {
		if strings.EqualFold(m.Name, named) {
			found = append(found, string(m.ID))
		}
	}
	switch len(found) {
	case 0:
		return "", holdfast.Errorf(holdfast.KindNotFound, "there is no machine %q", named).WithField("vm").WithHint("see: holdfast vm list --search PART")
	case 1:
		return holdfast.ResourceID(found[0]), nil
	}
	return "", holdfast.Errorf(holdfast.KindInvalid, "%d machines have the name %q", len(found), named).WithField("vm").WithHint("give the id of one: %s", strings.Join(found, ", "))
}

// alsoListMachines lets vm list ask the server where it is not given a cloud to ask.
func (c *commands) alsoListMachines(offline *cobra.Command) {
	var filter client.MachineFilter
	var limit int
	cloud := offline.RunE
	offline.Short = "List virtual machines: those of the server with who protects them, or those that an account sees"
	offline.Long = `List virtual machines. With --azure or HOLDFAST_AZURE the cloud is asked, and the machines are those that the account sees. Otherwise, and
always with a flag that is about the server, the server is asked that you are signed in to: each machine with its region, the policy that protects it, why that
one or why none, and when its newest good point was made.`
	offline.Example += `
  holdfast vm list
  holdfast vm list --unprotected
  holdfast vm list --policy nightly --region westeurope`
	c.serverFlags(offline)
	flags := offline.Flags()
	flags.StringVar(&filter.Policy, "policy", "", "of the server: only those that this policy protects")
	flags.StringVar(&filter.Region, "region", "", "of the server: only those in this region")
	flags.StringVar(&filter.Search, "search", "", "of the server: only those with this in their name or id")
	flags.BoolVar(&filter.Unprotected, "unprotected", false, "of the server: only those that no policy protects")
	flags.BoolVar(&filter.Gone, "gone", false, "of the server: those that were deleted as well")
	limitFlag(offline, &limit, 1000)
	offline.RunE = func(cmd *cobra.Command, args []string) error {
		if inCloud, err := c.asksCloud(cmd); err != nil {
			return err
		} else if inCloud {
			return cloud(cmd, args)
		}
		if err := checkLimit(limit); err != nil {
			return err
		}
		if err := c.knowsWhom(cmd); err != nil {
			return err
		}
		return c.ask(cmd.Context(), args, func(ctx context.Context, server *client.Client, _ []string) error {
			return c.listMachines(ctx, server, filter, limit)
		})
	}
}

// knowsWhom refuses vm list where it has neither a cloud nor a server to ask.
func (c *commands) knowsWhom(cmd *cobra.Command) error {
	path, err := c.loginPath()
	if err != nil {
		return err
	}
	known, err := readLogins(path)
	if err != nil || len(known.Logins) > 0 || cmd.Flags().Changed("server") || cmd.Flags().Changed("login") {
		return err
	}
	return holdfast.Errorf(holdfast.KindInvalid, "nothing says whom to ask: --azure is missing, and you are not signed in to a server").WithField("azure").
		WithHint("give --azure FILE (or HOLDFAST_AZURE) to ask the cloud, such as the azure.yaml of a twin, or sign in: holdfast login --server https://HOST:PORT --user NAME --password-file FILE")
}

// asksCloud reports whether vm list is to ask the cloud: since it was given one, and nothing says that a server is meant.
func (c *commands) asksCloud(cmd *cobra.Command) (bool, error) {
	ofServer := ""
	for _, flag := range []string{"server", "login", "policy", "region", "search", "unprotected", "gone", "limit"} {
		if cmd.Flags().Changed(flag) {
			ofServer = flag
		}
	}
	if cmd.Flags().Changed("azure") && ofServer != "" {
		return false, holdfast.Errorf(holdfast.KindInvalid, "--azure and --%s exclude each other", ofServer).WithField(ofServer).WithHint("leave --azure away to ask the server")
	}
	return cmd.Flags().Changed("azure") || ofServer == "" && c.getenv("HOLDFAST_AZURE") != "", nil
}

func (c *commands) listMachines(ctx context.Context, server *client.Client, filter client.MachineFilter, limit int) error {
	machines, more, err := gather(limit, func(limit int, after string) (view.List[view.Machine], error) {
		filter.Limit, filter.After = limit, after
		return server.Machines(ctx, filter)
	})
	if err != nil {
		return err
	}
	c.noteMore(more, len(machines))
	return c.result(machines, func(w io.Writer) error {
		var rows [][]string
		for _, m := range machines {
			rows = append(rows, []string{m.Name, m.Region, orNone(m.Policy), reasonWord(m), timeOrNone(m.Newest), fmt.Sprint(m.Points), string(m.ID)})
		}
		return table(w, []string{"NAME", "REGION", "POLICY", "REASON", "NEWEST POINT", "POINTS", "ID"}, rows,
			"No machine matches. The server looks at the cloud now and then; to have it look now, run: holdfast vm discover")
	})
}

func reasonWord(m view.Machine) string {
	switch {
	case !m.Gone.IsZero():
		return "deleted, confirmed at " + cli.Time(m.Gone)
	case m.Refused != "":
		return m.Why + "; no point can be made: " + m.Refused
	}
	return m.Why
}

func (c *commands) vmDiscoverCommand() *cobra.Command {
	return c.asking(&cobra.Command{
		Use: "discover", Short: "Have the server look at the cloud now",
		Long:    `Have the server look at the cloud now, instead of at the next time when it would: new machines are found and tags are read.`,
		Example: `  holdfast vm discover`,
	}, func(ctx context.Context, server *client.Client, _ []string) error {
		if err := server.Discover(ctx); err != nil {
			return err
		}
		return c.result(struct {
			Asked bool `json:"asked"`
		}{true}, func(w io.Writer) error {
			_, err := fmt.Fprintln(w, "The server looks at the cloud; see the machines with: holdfast vm list")
			return err
		})
	})
}

func (c *commands) vmSnapshotCommand() *cobra.Command {
	var wait bool
	cmd := &cobra.Command{
		Use: "snapshot VM", Short: "Make a snapshot of a machine by hand", Args: words("VM"),
		Long: `Make a snapshot of a machine by hand, outside of every policy. VM is its ARM id, or a name that only one machine has. Such a snapshot stays
until somebody removes it. With --wait the session is followed until it has ended; the exit code is 1 unless it ended well or with warnings alone.`,
		Example: `  holdfast vm snapshot web-1
  holdfast vm snapshot web-1 --wait`,
	}
	cmd.Flags().BoolVar(&wait, "wait", false, "follow the session until it has ended")
	return c.asking(cmd, func(ctx context.Context, server *client.Client, args []string) error {
		s, err := server.Snapshot(ctx, args[0])
		if err != nil {
			return err
		}
		if !wait {
			return c.result(s, func(w io.Writer) error {
				_, err := fmt.Fprintf(w, "Session %s makes a snapshot of %s. Follow it with: holdfast session watch %s\n", s.ID, args[0], s.ID)
				return err
			})
		}
		ended, err := c.follow(ctx, server, []view.Session{s})
		if err != nil {
			return err
		}
		if err := c.result(ended[0], func(w io.Writer) error { return tellSession(w, ended[0]) }); err != nil {
			return err
		}
		return endedWell(ended)
	})
}
