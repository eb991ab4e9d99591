package main

import (
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
)

// The steps of a round, in order.
const (
	stepFull    = "full"
	stepAgain   = "no change"
	stepRuns    = "1 % in 1 MiB runs"
	stepPages   = "1 % in 4 KiB pages"
	stepRestore = "restore"
	stepVerify  = "verify all data"
)

var steps = []string{stepFull, stepAgain, stepRuns, stepPages, stepRestore, stepVerify} //nolint:gochecknoglobals // a constant list

// command is one command line with its surroundings.
type command struct {
	args []string
	env  []string
	dir  string // to run in
	repo string // folder whose growth counts
}

// engine is a backup program. Backups run in the folder of the round, where the disk is disk.img and the change list is changes;
// restores run in its folder out, and leave disk.img there. first is what the engine calls the full backup.
type engine struct {
	name    string
	program string
	env     []string
	create  func(e engine, repo string) []string
	backup  func(e engine, repo, step, first string) []string
	first   func(e engine, repo string) []string // a command that prints JSON with the id of the full backup; nil: not needed
	restore func(e engine, repo, first string) []string
	verify  func(e engine, repo string) []string
}

// known returns all engines that can be measured here, Holdfast first.
func known(o options) []engine {
	list := []engine{ours(o, "holdfast", false, "default"), ours(o, "holdfast with change list", true, "default"), ours(o, "holdfast better", true, "better")}
	for _, e := range []engine{restic(), borg(), kopia()} {
		if program := programOf(e); program != "" {
			e.program = program
			list = append(list, e)
		}
	}
	if o.engines != nil {
		list = slices.DeleteFunc(list, func(e engine) bool { return !slices.Contains(o.engines, e.name) })
	}
	return list
}

func programOf(e engine) string {
	if named := os.Getenv("HOLDFAST_BENCH_" + strings.ToUpper(e.name)); named != "" {
		return named
	}
	program, err := exec.LookPath(e.name)
	if err != nil {
		return ""
	}
	return program
}

const password = "correct horse"

func ours(o options, name string, list bool, compression string) engine {
	return engine{
		name: name, program: o.holdfast, env: []string{"HOLDFAST_REPO_PASSWORD=" + password},
		create: func(e engine, repo string) []string { return []string{e.program, "repo", "init", "--repo", repo} },
		backup: func(e engine, repo, step, first string) []string {
			args := []string{e.program, "image", "backup", "--repo", repo, "--name", "disk", "--compression", compression, "disk.img"}
			if list && step != stepFull {
				args = append(args, "--changes", "changes", "--since", first)
			}
			return args
		},
		first: func(e engine, repo string) []string {
			return []string{e.program, "repo", "points", "--repo", repo, "--json"}
		},
		restore: func(e engine, repo, first string) []string {
			return []string{e.program, "repo", "export", "--repo", repo, "--point", first, "--disk", "os", "--out", "disk.img"}
		},
		verify: func(e engine, repo string) []string {
			return []string{e.program, "repo", "verify", "--repo", repo, "--level", "2"}
		},
	}
}

func restic() engine {
	return engine{
		name: "restic", env: []string{"RESTIC_PASSWORD=" + password},
		create: func(e engine, repo string) []string {
			return []string{e.program, "init", "-q", "--no-cache", "-r", repo}
		},
		backup: func(e engine, repo, _, _ string) []string {
			return []string{e.program, "backup", "-q", "--no-cache", "-r", repo, "disk.img"}
		},
		first: func(e engine, repo string) []string {
			return []string{e.program, "snapshots", "-q", "--no-cache", "-r", repo, "--json"}
		},
		restore: func(e engine, repo, first string) []string {
			args := []string{e.program, "restore", "-q", "--no-cache", "-r", repo, "--target", ".", first}
			if resticWritesHoles(e.program) {
				args = append(args, "--sparse")
			}
			return args
		},
		verify: func(e engine, repo string) []string {
			return []string{e.program, "check", "-q", "--no-cache", "--read-data", "-r", repo}
		},
	}
}

// resticWritesHoles reports whether this restic has --sparse: versions before 0.15 write zeros.
func resticWritesHoles(program string) bool {
	help, err := exec.Command(program, "restore", "--help").Output()
	return err == nil && strings.Contains(string(help), "--sparse")
}

func borg() engine {
	return engine{
		name: "borg",
		env:  []string{"BORG_PASSPHRASE=" + password, "BORG_RELOCATED_REPO_ACCESS_IS_OK=yes"},
		create: func(e engine, repo string) []string {
			return []string{e.program, "init", "--encryption", "repokey-blake2", repo}
		},
		backup: func(e engine, repo, step, _ string) []string {
			return []string{e.program, "create", "--compression", "zstd,3", repo + "::" + archiveOf(step), "disk.img"}
		},
		restore: func(e engine, repo, _ string) []string {
			return []string{e.program, "extract", "--sparse", repo + "::" + archiveOf(stepFull)}
		},
		verify: func(e engine, repo string) []string { return []string{e.program, "check", "--verify-data", repo} },
	}
}

func archiveOf(step string) string { return "step-" + strconv.Itoa(slices.Index(steps, step)) }

func kopia() engine {
	return engine{
		name: "kopia",
		env:  []string{"KOPIA_PASSWORD=" + password, "KOPIA_CHECK_FOR_UPDATES=false"},
		create: func(e engine, repo string) []string {
			return []string{e.program, "repository", "create", "filesystem", "--path", repo, "--config-file", repo + ".config"}
		},
		backup: func(e engine, repo, _, _ string) []string {
			return []string{e.program, "snapshot", "create", "--no-progress", "--config-file", repo + ".config", "disk.img"}
		},
		first: func(e engine, repo string) []string {
			return []string{e.program, "snapshot", "list", "--all", "--json", "--config-file", repo + ".config"}
		},
		restore: func(e engine, repo, first string) []string {
			return []string{e.program, "restore", "--no-progress", "--write-sparse-files", "--config-file", repo + ".config", first, "disk.img"}
		},
		verify: func(e engine, repo string) []string {
			return []string{e.program, "snapshot", "verify", "--verify-files-percent", "100", "--config-file", repo + ".config"}
		},
	}
}
