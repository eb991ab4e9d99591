package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"

	"github.com/spf13/cobra"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/cli/command"
	"github.com/holdfast-backup/holdfast/internal/server"
)

// listenDefault is reached from this machine alone.
const listenDefault = "127.0.0.1:8460"

// serverOptions are the flags of server and worker.
type serverOptions struct {
	dataDir  string
	listen   string
	database string
	keys     string
	queues   []string
	atOnce   int
	cert     string
	key      string
}

func (a *app) serverCommand() *cobra.Command {
	var o serverOptions
	cmd := &cobra.Command{
		Use: "server", Short: "Protect machines by policies, on its own, day after day", Args: command.NoArguments,
		Long: `Run a server: it keeps the inventory, makes what the policies ask for, lets go what their retention says, keeps the record, and tells people.
Everything else is done by commands that speak to it, or over its REST interface (/openapi.json).

Its state is in the data folder, or with --database in PostgreSQL, where several servers and workers may share it. It may be killed at any time;
the next start goes on from what is written down. At its first start it makes an administrator, and writes his password into the data folder.
Back up the data folder: without seal.keys the passwords of repositories in the database cannot be opened. Restore points need none of it.`,
		Example: `  holdfast server --data-dir /var/lib/holdfast --azure azure.yaml
  holdfast server --data-dir data --azure twin/azure.yaml --listen 127.0.0.1:8460
  holdfast server --data-dir data --azure azure.yaml --listen 0.0.0.0:8460 --tls-cert tls.crt --tls-key tls.key --database postgres://holdfast@db/holdfast`,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.server(cmd.Context(), o) },
	}
	a.azureFlag(cmd)
	flags := cmd.Flags()
	flags.StringVar(&o.dataDir, "data-dir", "", "folder for the database, keys and certificates; made when it is not there")
	flags.StringVar(&o.listen, "listen", listenDefault, "where to listen: HOST:PORT")
	flags.StringVar(&o.cert, "tls-cert", "", "file with the certificate, and those between it and its authority (default: one that the server makes for itself)")
	flags.StringVar(&o.key, "tls-key", "", "file with the private key of --tls-cert")
	o.shared(cmd, []string{server.AllQueues})
	command.Required(cmd, "data-dir")
	return cmd
}

// shared are the flags that servers and workers have in common.
func (o *serverOptions) shared(cmd *cobra.Command, queues []string) {
	flags := cmd.Flags()
	flags.StringVar(&o.database, "database", "", "postgres://USER:PASSWORD@HOST:PORT/DATABASE (or HOLDFAST_DATABASE; default: SQLite in the data folder)")
	flags.StringVar(&o.keys, "keys", "", "file with the keys that seal passwords in the database (default: seal.keys in the data folder)")
	flags.StringSliceVar(&o.queues, "queues", queues, "whose work is done here: all, or a list of control, messages and names of regions")
	flags.IntVar(&o.atOnce, "at-once", 0, "machines in work at a time in each region (default 4)")
}

func (a *app) workerCommand() *cobra.Command {
	var o serverOptions
	cmd := &cobra.Command{
		Use: "worker", Short: "Do the work of regions beside a server", Args: command.NoArguments,
		Long: `Run a worker beside a server: it takes snapshots and makes backups in the regions that it is given, near the machines. It shares the server's
PostgreSQL database, and needs a copy of the server's seal.keys to open repositories.`,
		Example: `  holdfast worker --database postgres://holdfast@db/holdfast --keys seal.keys --azure azure.yaml --queues westeurope,northeurope`,
		RunE:    func(cmd *cobra.Command, _ []string) error { return a.worker(cmd.Context(), o) },
	}
	a.azureFlag(cmd)
	o.shared(cmd, nil)
	command.Required(cmd, "queues")
	return cmd
}

// plant reads what servers and workers have in common.
func (a *app) plant(o serverOptions) (server.PlantConfig, error) {
	config := server.PlantConfig{Database: o.database, KeyFile: o.keys, Queues: o.queues, AtOnce: o.atOnce, Clock: a.clock, Log: a.serverLog(), Tool: tool()}
	if config.Database == "" {
		config.Database = a.getenv("HOLDFAST_DATABASE")
	}
	if o.atOnce < 0 {
		return config, holdfast.Errorf(holdfast.KindInvalid, "%d is no number of machines", o.atOnce).WithField("at-once").WithHint("write a whole number from 1 on")
	}
	var err error
	config.Azure, err = a.azureClient()
	return config, err
}

func (a *app) server(ctx context.Context, o serverOptions) (err error) {
	config := server.Config{DataDir: o.dataDir, Listen: o.listen, Certificate: o.cert, Key: o.key}
	if config.PlantConfig, err = a.plant(o); err != nil {
		return err
	}
	if config.Database == "" {
		if config.Database, err = server.DatabaseIn(o.dataDir); err != nil {
			return err
		}
	}
	if config.KeyFile == "" {
		config.KeyFile = server.KeysIn(o.dataDir)
	}
	s, err := server.Start(ctx, config)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Close(ctx)) }()
	if err := a.tellStarted(s.Started); err != nil {
		return err
	}
	err = s.Wait(ctx)
	a.console.Note("Stopping: work that runs may end for a while.")
	return err
}

// tellStarted says that a server is ready, and how to reach it.
func (a *app) tellStarted(started server.Started) error {
	return a.console.Result(started, func(w io.Writer) error {
		_, err := fmt.Fprintf(w, "Listening at %s\n", started.Address)
		if err == nil && started.User != "" {
			_, err = fmt.Fprintf(w, "The administrator %s was made; his password is in %s\n", started.User, started.Password)
		}
		if err == nil && started.Certificate != "" {
			_, err = fmt.Fprintf(w, "Its certificate is its own: trust %s\n", started.Certificate)
		}
		if err == nil && started.User != "" {
			_, err = fmt.Fprintf(w, "Sign in with: holdfast login --server %s --user %s --password-file %s%s\n", started.Address, started.User, started.Password, caFlag(started))
		}
		if err == nil {
			_, err = fmt.Fprintln(w, "ready")
		}
		return err
	})
}

func caFlag(started server.Started) string {
	if started.Certificate == "" {
		return ""
	}
	return " --ca " + started.Certificate
}

func (a *app) worker(ctx context.Context, o serverOptions) (err error) {
	config, err := a.plant(o)
	if err != nil {
		return err
	}
	if config.Database == "" {
		return holdfast.Errorf(holdfast.KindInvalid, "--database is missing: the PostgreSQL database of the server").WithField("database").
			WithHint("a server on SQLite does all work by itself; give the server a database in PostgreSQL to have workers beside it")
	}
	if config.KeyFile == "" {
		return holdfast.Errorf(holdfast.KindInvalid, "--keys is missing: a copy of the server's seal.keys").WithField("keys").WithHint("copy seal.keys from the data folder of the server")
	}
	w, err := server.StartWorker(ctx, config)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, w.Close(ctx)) }()
	if err := a.console.Result(struct {
		Ready bool `json:"ready"`
	}{true}, func(w io.Writer) error {
		_, err := fmt.Fprintln(w, "ready")
		return err
	}); err != nil {
		return err
	}
	w.Run(ctx)
	return nil
}

// serverLog is for whoever looks after a server: what happens, on standard error. HOLDFAST_LOG=debug shows everything.
func (a *app) serverLog() *slog.Logger {
	level := slog.LevelInfo
	if a.getenv("HOLDFAST_LOG") == "debug" {
		level = slog.LevelDebug
	}
	return slog.New(slog.NewTextHandler(a.console.Err, &slog.HandlerOptions{Level: level}))
}
