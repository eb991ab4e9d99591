// Package server is the wiring of holdfast server and holdfast worker: what is started in which order, and stopped in the reverse one.
//
// A server keeps the inventory, lets the scheduler decide, does jobs, and answers over the REST interface. A worker does jobs beside it. Any
// number of both may share a PostgreSQL database; a SQLite file belongs to one server.
//
// It promises that a process may be killed between any two steps, and that the next one goes on from what is written down. When the
// database or the cloud cannot be reached it waits for them and says so, and ends for neither.
//
// It must never decide anything.
package server

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/api"
	"github.com/holdfast-backup/holdfast/internal/auth"
	"github.com/holdfast-backup/holdfast/internal/control"
	"github.com/holdfast-backup/holdfast/internal/discover"
	"github.com/holdfast-backup/holdfast/internal/repositories"
	"github.com/holdfast-backup/holdfast/internal/scheduler"
	"github.com/holdfast-backup/holdfast/internal/store"
)

// Config says how a server works. All fields of the plant but Queues and AtOnce are required.
type Config struct {
	PlantConfig

	DataDir     string // for certificates and the first password; made when it is not there
	Listen      string // HOST:PORT
	Certificate string // file with certificates in PEM; "" for one that the server makes for itself
	Key         string // file with its private key
}

// Server is one under way.
type Server struct {
	config    Config
	plant     *plant
	discovery *discover.Discovery
	lookout   *lookout
	scheduler *scheduler.Scheduler
	people    *auth.Service
	http      *http.Server
	listener  net.Listener
	nudged    chan struct{}

	stop   context.CancelFunc
	loops  sync.WaitGroup
	failed chan error

	// Started says what whoever started it wants to know.
	Started Started
}

// Started is what a server says when it is ready.
type Started struct {
	Address     string `json:"address"`                // https://HOST:PORT
	Certificate string `json:"certificate,omitempty"`  // file with the certificate to trust, when the server made it; else ""
	User        string `json:"user,omitempty"`         // the administrator that was made at this start; else ""
	Password    string `json:"passwordFile,omitempty"` // file with the administrator's password
}

// Start starts a server. The caller closes it.
func Start(ctx context.Context, config Config) (*Server, error) {
	if config.Queues == nil {
		config.Queues = []string{AllQueues}
	}
	s := &Server{config: config, nudged: make(chan struct{}, 1), failed: make(chan error, 1), stop: func() {}}
	for _, step := range []func(context.Context) error{s.makeFolder, s.openPlant, s.build, s.listen, s.firstAdministrator, s.run} {
		if err := step(ctx); err != nil {
			return nil, errors.Join(err, s.Close(ctx))
		}
	}
	return s, nil
}

func (s *Server) makeFolder(context.Context) error {
	if err := os.MkdirAll(s.config.DataDir, 0o700); err != nil {
		return holdfast.Wrap(holdfast.KindInvalid, err, "the data folder cannot be made").WithField("data-dir").WithHint("name a folder that this user may write to")
	}
	return nil
}

func (s *Server) openPlant(ctx context.Context) (err error) {
	s.plant, err = openPlant(ctx, s.config.PlantConfig)
	return err
}

// build makes what a server has beside a worker.
func (s *Server) build(ctx context.Context) error {
	c, p := s.config, s.plant
	s.discovery = discover.New(discover.Config{Database: p.db, Cloud: c.Azure, Clock: c.Clock, Log: c.Log})
	s.lookout = &lookout{server: s}
	s.scheduler = scheduler.New(scheduler.Config{
		Database: p.db, Jobs: p.queue, Clock: c.Clock, Log: c.Log, NewID: newID, Closed: p.closed, Teller: p.outbox, DownAfter: downAfter,
	})
	asks := control.New(control.Config{
		Database: p.db, Jobs: p.queue, Repositories: p.repositories, Secrets: p.secrets, Discovery: s.lookout, Notifier: p.outbox, Clock: c.Clock, Log: c.Log,
		NewID: newID, Closed: p.closed, Nudge: s.nudge,
	})
	people, err := auth.New(ctx, auth.Config{Store: store.People(p.db), Clock: c.Clock, Hasher: auth.NewHasher(auth.CostDefault, hashesAtOnce), Throttle: auth.NewThrottle()})
	if err != nil {
		return err
	}
	s.people = people
	handler, _ := api.New(api.Config{
		Control: asks, Auth: people, Database: p.db, Sealer: p.keys, Clock: c.Clock, Log: c.Log, Version: strings.TrimPrefix(c.Tool, "holdfast "), Installation: p.installation,
	})
	s.http = &http.Server{
		Handler: handler, ReadHeaderTimeout: readTimeout, IdleTimeout: idleTimeout, MaxHeaderBytes: headerMax,
		ErrorLog: slog.NewLogLogger(c.Log.Handler(), slog.LevelWarn),
	}
	return nil
}

// Limits of the web server. Writing has none: previews and sessions that are watched take their time.
const (
	readTimeout  = 10 * time.Second
	idleTimeout  = 2 * time.Minute
	headerMax    = 64 << 10
	hashesAtOnce = 2
)

// firstAdministrator makes the administrator of a database without people, with a random password in a file. Who sees the file can sign in.
func (s *Server) firstAdministrator(ctx context.Context) error {
	all, err := s.people.Users(ctx)
	if err != nil || len(all) > 0 {
		return err
	}
	const name = "admin"
	file := filepath.Join(s.config.DataDir, "admin-password")
	password, err := firstPassword(file)
	if err != nil {
		return err
	}
	_, err = s.people.AddUser(ctx, name, auth.RoleAdministrator, password)
	if holdfast.IsKind(err, holdfast.KindConflict) {
		return os.Remove(file) // another server of this database was faster, and its password is the one that counts
	}
	s.Started.User, s.Started.Password = name, file
	return err
}

// listen opens the address.
func (s *Server) listen(ctx context.Context) error {
	certificate, made, err := s.certificate()
	if err != nil {
		return err
	}
	var config net.ListenConfig
	listener, err := config.Listen(ctx, "tcp", s.config.Listen)
	if err != nil {
		return holdfast.Wrap(holdfast.KindInvalid, err, "nothing can listen at %s", s.config.Listen).WithField("listen").WithHint("name an address of this machine, and a port that nobody else has: HOST:PORT")
	}
	s.listener = tls.NewListener(listener, &tls.Config{Certificates: []tls.Certificate{certificate}, MinVersion: tls.VersionTLS12, NextProtos: []string{"h2", "http/1.1"}})
	s.Started.Address, s.Started.Certificate = "https://"+listener.Addr().String(), made
	return nil
}

// run begins to work.
func (s *Server) run(ctx context.Context) error {
	if err := s.plant.start(ctx); err != nil {
		return err
	}
	working, stop := context.WithCancel(context.WithoutCancel(ctx))
	s.stop = stop
	for _, loop := range []func(context.Context){s.lookLoop, s.tickLoop, s.outboxLoop, s.serve} {
		s.loops.Go(func() { loop(working) })
	}
	return nil
}

func (s *Server) serve(context.Context) {
	if err := s.http.Serve(s.listener); err != nil && !errors.Is(err, http.ErrServerClosed) {
		s.failed <- holdfast.Wrap(holdfast.KindInternal, err, "the server does not listen any more")
	}
}

// Wait returns when the server has failed, or ctx has ended.
func (s *Server) Wait(ctx context.Context) error {
	select {
	case err := <-s.failed:
		return err
	case <-ctx.Done():
		return nil
	}
}

// closeTimeout is how long requests may take to end.
const closeTimeout = 5 * time.Second

// Close stops the server: no request is taken any more, nothing is decided, work that runs may end for a while.
func (s *Server) Close(ctx context.Context) error {
	var problems []error
	s.stop()
	if s.http != nil {
		waiting, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeTimeout)
		defer cancel()
		if err := s.http.Shutdown(waiting); err != nil { // somebody watches a session: he asks again elsewhere
			problems = append(problems, s.http.Close())
		}
	}
	s.loops.Wait()
	if s.plant != nil {
		problems = append(problems, s.plant.close(ctx))
	}
	return errors.Join(problems...)
}

// Worker does jobs beside a server.
type Worker struct{ plant *plant }

// StartWorker starts one. The caller closes it.
func StartWorker(ctx context.Context, config PlantConfig) (*Worker, error) {
	p, err := openPlant(ctx, config)
	if err != nil {
		return nil, err
	}
	if err := p.start(ctx); err != nil {
		return nil, errors.Join(err, p.close(ctx))
	}
	return &Worker{p}, nil
}

// Run does jobs until ctx ends, those of regions that were not known at the start as well.
func (w *Worker) Run(ctx context.Context) {
	for w.plant.config.Clock.Sleep(ctx, lookFresh) == nil {
		if err := w.plant.followRegions(ctx); err != nil && ctx.Err() == nil {
			w.plant.config.Log.WarnContext(ctx, "new regions could not be looked for", "error", err)
		}
	}
}

// Close ends the worker.
func (w *Worker) Close(ctx context.Context) error { return w.plant.close(ctx) }

var _ control.Repositories = (*repositories.Repositories)(nil)
