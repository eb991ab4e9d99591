package database

import (
	"context"
	"database/sql/driver"

	"github.com/holdfast-backup/holdfast"
)

// statementsMax bounds how many statements a connection remembers: more than a program has that take arguments.
const statementsMax = 100

// remembering makes connections that remember statements with arguments. The driver would prepare one anew each time it is run, which takes SQLite longer
// than running it; a pass over thousands of machines runs the same few thousands of times. Statements without arguments are texts of which no two
// are alike.
type remembering struct{ driver.Connector }

// plainConnection is what the driver's connections can do.
type plainConnection interface {
	driver.Conn
	driver.ConnBeginTx
	driver.ConnPrepareContext
	driver.ExecerContext
	driver.QueryerContext
	pooled
}

// pooled is what a pool of connections asks of one.
type pooled interface {
	driver.Pinger
	driver.SessionResetter
	driver.Validator
}

// Connect implements driver.Connector.
func (r remembering) Connect(ctx context.Context) (driver.Conn, error) {
	plain, err := r.Connector.Connect(ctx)
	if err != nil {
		return nil, err
	}
	able, ok := plain.(plainConnection)
	holdfast.Invariant(ok, "the driver's connection %T lacks what it had", plain)
	return &connection{plainConnection: able, known: map[string]*statement{}}, nil
}

// connection is one at a time the business of one goroutine, as database/sql promises to drivers.
type connection struct {
	plainConnection
	known map[string]*statement
}

// statement is one that was prepared. While rows of it are read it is busy.
type statement struct {
	driver.Stmt
	driver.StmtExecContext
	driver.StmtQueryContext
	busy bool
}

// statement returns a statement that is free, and nil for what is better run without one.
func (c *connection) statement(ctx context.Context, query string, arguments []driver.NamedValue) (*statement, error) {
	if len(arguments) == 0 {
		return nil, nil //nolint:nilnil // no statement is what is meant
	}
	if s, known := c.known[query]; known {
		if s.busy {
			return nil, nil //nolint:nilnil // as above
		}
		return s, nil
	}
	prepared, err := c.PrepareContext(ctx, query)
	if err != nil {
		return nil, err
	}
	executes, one := prepared.(driver.StmtExecContext)
	queries, other := prepared.(driver.StmtQueryContext)
	holdfast.Invariant(one && other, "the driver's statement %T lacks what it had", prepared)
	if len(c.known) >= statementsMax {
		if err := c.forget(); err != nil {
			return nil, err
		}
	}
	s := &statement{Stmt: prepared, StmtExecContext: executes, StmtQueryContext: queries}
	c.known[query] = s
	return s, nil
}

// forget ends the statements that are free.
func (c *connection) forget() error {
	for query, s := range c.known {
		if s.busy {
			continue
		}
		delete(c.known, query)
		if err := s.Close(); err != nil {
			return err
		}
	}
	return nil
}

// ExecContext implements driver.ExecerContext.
func (c *connection) ExecContext(ctx context.Context, query string, arguments []driver.NamedValue) (driver.Result, error) {
	s, err := c.statement(ctx, query, arguments)
	if err != nil {
		return nil, err
	}
	if s == nil {
		return c.plainConnection.ExecContext(ctx, query, arguments)
	}
	return s.ExecContext(ctx, arguments)
}

// QueryContext implements driver.QueryerContext.
func (c *connection) QueryContext(ctx context.Context, query string, arguments []driver.NamedValue) (driver.Rows, error) {
	s, err := c.statement(ctx, query, arguments)
	if err != nil {
		return nil, err
	}
	if s == nil {
		return c.plainConnection.QueryContext(ctx, query, arguments)
	}
	rows, err := s.QueryContext(ctx, arguments)
	if err != nil {
		return nil, err
	}
	s.busy = true
	return &busyRows{rows, s}, nil
}

// busyRows free their statement when they are closed.
type busyRows struct {
	driver.Rows
	of *statement
}

// Close implements driver.Rows.
func (r *busyRows) Close() error {
	err := r.Rows.Close()
	r.of.busy = false
	return err
}

// Close implements driver.Conn.
func (c *connection) Close() error {
	for _, s := range c.known {
		s.busy = false
	}
	if err := c.forget(); err != nil {
		_ = c.plainConnection.Close() // best effort: the first error is told
		return err
	}
	return c.plainConnection.Close()
}
