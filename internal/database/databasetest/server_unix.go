//go:build unix

package databasetest

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"syscall"
)

// superuser is the role that the throw-away server knows. The user of the operating system that runs it has the same name where
// tests run as root, which PostgreSQL refuses to do.
const superuser = "postgres"

var errMissing = errors.New("PostgreSQL is not installed: Debian's package is postgresql")

// throwaway is a running server. Its life is tied to a pipe whose writing end this process holds: when the process ends, by itself
// or killed, the shell that reads the other end stops the server and removes its folder.
type throwaway struct {
	folder string // with its data and its socket; it listens on no port
	life   *os.File
}

// server starts a server when first called. It answers a little later.
var server = sync.OnceValues(start)

func start() (*throwaway, error) {
	programs, err := find()
	if err != nil {
		return nil, err
	}
	folder, err := os.MkdirTemp("", "holdfast-postgres-")
	if err != nil {
		return nil, err
	}
	run, err := ownership(folder)
	if err != nil {
		return nil, err
	}
	arguments := []string{"-D", filepath.Join(folder, "data"), "-U", superuser, "--auth=trust", "--encoding=UTF8", "--locale=C", "--no-sync", "--no-instructions"}
	setup := exec.Command(filepath.Join(programs, "initdb"), arguments...) //nolint:gosec // Debian's program
	setup.SysProcAttr, setup.Dir = run, folder
	if out, err := setup.CombinedOutput(); err != nil {
		return nil, errors.Join(fmt.Errorf("initdb: %w: %s", err, out), os.RemoveAll(folder))
	}
	life, err := serve(programs, folder, run)
	if err != nil {
		return nil, err
	}
	return &throwaway{folder: folder, life: life}, nil
}

// find returns the folder of the newest PostgreSQL programs.
func find() (string, error) {
	folders, err := filepath.Glob("/usr/lib/postgresql/*/bin")
	if err != nil {
		return "", err
	}
	slices.SortFunc(folders, func(a, b string) int { return major(b) - major(a) })
	if program, err := exec.LookPath("postgres"); err == nil {
		folders = append(folders, filepath.Dir(program))
	}
	for _, folder := range folders {
		if _, err := os.Stat(filepath.Join(folder, "postgres")); err == nil {
			return folder, nil
		}
	}
	return "", errMissing
}

func major(folder string) int {
	n, err := strconv.Atoi(filepath.Base(filepath.Dir(folder)))
	if err != nil {
		return 0 // a folder of another name comes last
	}
	return n
}

// ownership gives the folder to the user who will run the server, and says how to start a process as him.
func ownership(folder string) (*syscall.SysProcAttr, error) {
	if os.Getuid() != 0 {
		return &syscall.SysProcAttr{Setpgid: true}, nil
	}
	account, err := user.Lookup(superuser)
	if err != nil {
		return nil, errors.Join(errMissing, err)
	}
	id, err := strconv.ParseUint(account.Uid, 10, 32)
	if err != nil {
		return nil, err
	}
	group, err := strconv.ParseUint(account.Gid, 10, 32)
	if err != nil {
		return nil, err
	}
	return &syscall.SysProcAttr{
		Setpgid:    true, // an interrupt at the terminal is for the tests alone
		Credential: &syscall.Credential{Uid: uint32(id), Gid: uint32(group)},
	}, os.Chown(folder, int(id), int(group))
}

// keeper starts the server and waits for the end of its input.
const keeper = `"$0" -D data -k "$PWD" -c listen_addresses= -c fsync=off -c full_page_writes=off -c synchronous_commit=on \
	-c max_connections=200 -c shared_buffers=32MB -c logging_collector=off >log 2>&1 </dev/null &
read -r _
kill -QUIT $!
wait $!
cd / && rm -rf "$1"`

// serve starts the keeper, and returns what keeps the server alive.
func serve(programs, folder string, run *syscall.SysProcAttr) (*os.File, error) {
	reading, life, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer reading.Close()
	keep := exec.Command("/bin/sh", "-c", keeper, filepath.Join(programs, "postgres"), folder) //nolint:gosec // Debian's program, in a folder of ours
	keep.SysProcAttr, keep.Dir, keep.Stdin = run, folder, reading
	return life, keep.Start()
}
